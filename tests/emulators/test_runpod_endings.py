"""Pods are separate, leave nothing behind, and can be cut off; the provider's own package drives them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.runner import runner
from tests.emulators.runpod import RunPodEmulator
from tests.emulators.runpod_kit import ORDER, Client, Ssh, alive, eventually, host_key

pytestmark = pytest.mark.needs("guests")


# --- separate, and gone ---


def test_pods_do_not_see_each_other_or_this_machine(
    account: Client, ssh: Ssh, pod: dict[str, Any], tmp_path: Path
) -> None:
    other = account.running(env={"PUBLIC_KEY": ssh.public, "WHOSE": "other"})
    ssh.reachable(other)
    for folder in ("/root", "/workspace", "/tmp", "/etc"):
        ssh.say(pod, f"echo mine > {folder}/mark")
        assert ssh.run(other, f"cat {folder}/mark").returncode != 0
        assert not Path(folder, "mark").exists()
    assert ssh.run(pod, f"ls {tmp_path}").returncode != 0
    assert set(ssh.say(pod, "cat /proc/[0-9]*/comm").split()) <= {"start.sh", "sshd", "sleep", "bash", "cat"}
    assert "WHOSE" not in ssh.say(pod, "cat /etc/rp_environment")
    assert ssh.run(pod, "touch /usr/bin/mark").returncode != 0
    assert ssh.run(pod, "mount -t tmpfs x /mnt").returncode != 0


def test_nothing_is_left_of_a_terminated_pod(
    cloud: RunPodEmulator, account: Client, ssh: Ssh, pod: dict[str, Any]
) -> None:
    ssh.say(pod, "setsid nohup sleep 1000 >/dev/null 2>&1 &")
    pids = cloud.pod(pod["id"]).processes()
    assert len(pids) >= 4
    groups = {
        line for pid in pids for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if pod["id"] in line
    }
    assert groups
    account("DELETE", f"/v2/pods/{pod['id']}")
    assert alive(pids) == []
    assert not list(Path("/sys/fs/cgroup").rglob(f"{pod['id']}-*"))


def test_nothing_is_left_when_the_emulator_closes(start: Callable[..., RunPodEmulator]) -> None:
    cloud = start()
    account = Client(cloud)
    made = [account.running()["id"] for _ in range(2)]
    pids = [pid for each in made for pid in eventually(cloud.pod(each).processes, "processes")]
    cloud.close()
    assert alive(pids) == []
    assert [pod.status for pod in cloud.created] == ["TERMINATED"] * 2
    with pytest.raises(ConnectionRefusedError):
        account("GET", "/v2/pods")


def test_nothing_lives_on_when_the_emulator_is_killed(tmp_path: Path) -> None:
    program = (
        "import time; from tests.emulators.runpod import RunPodEmulator; from tests.emulators.runpod_kit import *\n"
        "cloud = RunPodEmulator(); pod = cloud.pod(Client(cloud).running()['id'])\n"
        "pids = eventually(pod.processes, 'processes')\n"
        "print(pod.id, *pids, flush=True); time.sleep(1000)"
    )
    root = Path(__file__).parents[2]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, env=env, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout
        pod_id, *pids = killed.stdout.readline().split()
        assert alive([int(pid) for pid in pids])
        killed.send_signal(signal.SIGKILL)
    eventually(lambda: not alive([int(pid) for pid in pids]), "the end of the pod's processes")
    eventually(lambda: not list(Path("/sys/fs/cgroup").rglob(f"{pod_id}-*")), "the end of its control group")


def test_it_runs_by_hand_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.emulators.runpod", "--port", "0", "--starting-seconds", "0"]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        url, key = (running.stdout.readline().strip().partition("=")[2] for _ in range(2))
        request = urllib.request.Request(
            f"{url}/v2/pods", json.dumps(ORDER).encode(), {"Authorization": f"Bearer {key}"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["status"] == "PROVISIONING"
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


# --- the network between ---


def test_ssh_is_cut_refused_and_comes_back(cloud: RunPodEmulator, ssh: Ssh, pod: dict[str, Any]) -> None:
    at = pod["ssh"]["direct"]
    network = cloud.ssh(pod["id"])
    with subprocess.Popen(
        ["ssh", *ssh.options(), "-p", str(at["port"]), f"root@{at['host']}", "echo up; sleep 1000"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as session:  # fmt: skip
        assert session.stdout
        assert session.stdout.readline() == b"up\n"
        network.refuse()
        assert network.cut() >= 1
        assert session.wait(60) == 255
    assert ssh.run(pod, "true").returncode == 255
    network.accept()
    assert ssh.say(pod, "echo back") == "back"


def test_a_deaf_pod_runs_and_bills(cloud: RunPodEmulator, account: Client, ssh: Ssh) -> None:
    cloud.faults.deaf_ssh()
    pod = account.running(env={"PUBLIC_KEY": ssh.public})
    assert ssh.run(pod, "true").returncode == 255
    assert pod["runtime"]
    assert pod["cost"] == 0.39


def test_a_port_moves_under_a_running_pod(
    cloud: RunPodEmulator, account: Client, ssh: Ssh, pod: dict[str, Any]
) -> None:
    key = host_key(pod)
    cloud.change_port(pod["id"])
    moved = account.pod(pod["id"])
    assert moved["ssh"]["direct"]["port"] != pod["ssh"]["direct"]["port"]
    assert ssh.run(pod, "true").returncode == 255
    assert ssh.say(moved, "echo same") == "same"
    assert host_key(moved) == key


def test_a_frozen_pod_hangs_and_can_be_terminated(cloud: RunPodEmulator, account: Client, pod: dict[str, Any]) -> None:
    pids = cloud.pod(pod["id"]).processes()
    cloud.freeze(pod["id"])
    eventually(
        lambda: {process.state for process in runner.processes(pids).values()} <= {"T", "Z"}, "all of it to stand still"
    )
    assert account.pod(pod["id"])["status"] == "RUNNING"
    account.act(pod["id"], "terminate")
    assert alive(pids) == []


def test_a_preempted_spot_pod_is_gone_at_once(cloud: RunPodEmulator, account: Client) -> None:
    rent = """mutation { podRentInterruptable(input: {name: "x", imageName: "i", bidPerGpu: 0.3,
        gpuTypeId: "NVIDIA GeForce RTX 4090", cloudType: SECURE}) { id } }"""
    made = account.graphql(rent)["data"]["podRentInterruptable"]["id"]
    account.when(made, "RUNNING")
    pids = eventually(cloud.pod(made).processes, "processes")
    cloud.preempt(made)
    assert alive(pids) == []
    assert account.pod(made)["status"] == "EXITED"


# --- the provider's own package ---


@pytest.mark.needs("runpod")
def test_the_runpod_package_drives_it(cloud: RunPodEmulator, account: Client, ssh: Ssh) -> None:
    program = f"""
import runpod
runpod.api_key = {cloud.key!r}
assert "NVIDIA L4" in [gpu["id"] for gpu in runpod.get_gpus()]
pod = runpod.create_pod("x", "image", "NVIDIA L4", cloud_type="SECURE", ports="22/tcp", env={{"A": "b"}})
assert runpod.get_pod(pod["id"])["desiredStatus"] == "RUNNING", pod
assert [each["id"] for each in runpod.get_pods()] == [pod["id"]]
assert runpod.stop_pod(pod["id"])["desiredStatus"] == "EXITED"
assert runpod.resume_pod(pod["id"], 1)["desiredStatus"] == "RUNNING"
runpod.terminate_pod(pod["id"])
assert runpod.get_pods() == []
try:
    runpod.create_pod("x", "image", "NVIDIA L4", cloud_type="COMMUNITY")
except runpod.error.QueryError as error:
    print(error)
"""
    env = os.environ | {"RUNPOD_API_BASE_URL": cloud.url}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert "no longer any instances available" in done.stdout
