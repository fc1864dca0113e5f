"""Pods are real machines: reachable, separate, limited, and gone when they should be."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest

from backends.runner import runner
from tests.emulators.runpod import Pod, RunPodEmulator
from tests.emulators.runpod_kit import L4, ORDER, Client, Ssh, eventually

pytestmark = [
    pytest.mark.needs("pods"),
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]
HUNGRY = "python3 -c 'held = []\nwhile True: held.append(bytearray(4_000_000))'"


def host_key(pod: dict[str, Any]) -> str:
    """What its sshd shows itself with."""
    at = pod["ssh"]["direct"]

    def scan() -> str:
        found = subprocess.run(
            ["ssh-keyscan", "-t", "ed25519", "-p", str(at["port"]), at["host"]], capture_output=True, text=True
        )
        return found.stdout.partition("ssh-ed25519 ")[2].strip()

    return eventually(scan, "a host key")


@pytest.fixture
def api(cloud: RunPodEmulator) -> Client:
    """A client with the account's key for ``cloud``."""
    return Client(cloud)


@pytest.fixture
def pod(api: Client, ssh: Ssh) -> dict[str, Any]:
    """A pod that can be logged in to."""
    made = api.running(env={"PUBLIC_KEY": ssh.public, "MODEL": "a b"})
    ssh.reachable(made)
    return made


def alive(pids: list[int]) -> list[int]:
    return [pid for pid, process in runner.processes(pids).items() if process.state != "Z"]


# --- reaching it ---


def test_openssh_logs_in_and_copies(ssh: Ssh, pod: dict[str, Any], tmp_path: Path) -> None:
    assert ssh.say(pod, "whoami; pwd; hostname").split() == ["root", "/root", pod["id"]]
    (tmp_path / "sent").write_bytes(os.urandom(100_000))
    at = pod["ssh"]["direct"]
    for extra in ([], ["-O"]):  # over SFTP, and as scp did before
        there = f"root@{at['host']}:/workspace/there"
        copy = ["scp", *extra, *ssh.options(), "-P", str(at["port"])]
        subprocess.run([*copy, str(tmp_path / "sent"), there], check=True, capture_output=True)
        subprocess.run([*copy, there, str(tmp_path / "back")], check=True, capture_output=True)
        assert (tmp_path / "back").read_bytes() == (tmp_path / "sent").read_bytes()


def test_paramiko_runs_commands_and_moves_files(ssh: Ssh, pod: dict[str, Any]) -> None:
    at = pod["ssh"]["direct"]
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(at["host"], at["port"], "root", key_filename=str(ssh.private), look_for_keys=False, timeout=60)
        _, out, _ = client.exec_command("exit 7")
        assert out.channel.recv_exit_status() == 7
        with client.open_sftp() as sftp:
            sftp.putfo(io.BytesIO(b"x" * 70_000), "/workspace/file")
            assert sftp.stat("/workspace/file").st_size == 70_000


def test_the_environment_is_only_in_its_file(cloud: RunPodEmulator, ssh: Ssh, pod: dict[str, Any]) -> None:
    session = ssh.say(pod, "env")
    assert "RUNPOD_" not in session
    assert "MODEL" not in session
    names = ("MODEL", "RUNPOD_POD_ID", "RUNPOD_API_KEY", "RUNPOD_DC_ID", "RUNPOD_TCP_PORT_22", "PUBLIC_KEY")
    shown = ssh.say(pod, f'. /etc/rp_environment; echo "{"|".join("$" + name for name in names)}"')
    assert shown.split("|") == [
        "a b", pod["id"], cloud.pod(pod["id"]).key, "US-KS-2", str(pod["ssh"]["direct"]["port"]), ""
    ]  # fmt: skip


def test_each_start_has_a_new_host_key_a_new_port_and_a_wiped_disk(api: Client, ssh: Ssh) -> None:
    pod = api.running(env={"PUBLIC_KEY": ssh.public}, mounts={"persistent": {"size": 10, "path": "/workspace"}})
    ssh.reachable(pod)
    ssh.say(pod, "touch /root/lost /workspace/kept")
    before = host_key(pod)
    for action in ("restart", "stop"):
        api.act(pod["id"], action)
        if action == "stop":
            api.act(pod["id"], "start")
        again = api.when(pod["id"], "RUNNING")
        ssh.reachable(again)
        assert ssh.say(again, "ls /root /workspace").split() == ["/root:", "/workspace:", "kept"]
        assert again["ssh"]["direct"]["port"] != pod["ssh"]["direct"]["port"]
        assert host_key(again) != before
        pod, before = again, host_key(again)


def test_without_a_key_there_is_no_ssh(cloud: RunPodEmulator, api: Client) -> None:
    pod = api.running()
    eventually(lambda: "ready to use" in logged(cloud.pod(pod["id"])), "the start script's end")
    at = pod["ssh"]["direct"]
    with socket.create_connection((at["host"], at["port"]), timeout=60) as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)


def logged(pod: Pod) -> str:
    return "\n".join(line.text for line in pod.logs.after(0))


# --- the start command ---


def test_a_start_command_is_pid_1_and_may_go_on_with_the_images_own(api: Client, ssh: Ssh) -> None:
    pod = api.running(
        env={"PUBLIC_KEY": ssh.public}, cmd=["bash", "-c", "echo mine > /root/before; exec /start.sh"]
    )  # fmt: skip
    ssh.reachable(pod)
    assert ssh.say(pod, "cat /root/before; tr '\\0' ' ' < /proc/1/cmdline").split("\n") == [
        "mine",
        "/bin/bash /start.sh ",
    ]


@pytest.mark.parametrize(
    "override",
    [
        {"args": "bash -c 'echo mine alone; sleep 1000'"},
        {"entrypoint": ["sh", "-c"], "cmd": ["echo mine alone; sleep 1000"]},
    ],
)
def test_a_start_command_that_starts_no_sshd_gives_none(
    cloud: RunPodEmulator, api: Client, override: dict[str, Any]
) -> None:
    pod = api.running(env={"PUBLIC_KEY": "ssh-ed25519 A"}, **override)
    eventually(lambda: "mine alone" in logged(cloud.pod(pod["id"])), "its output in the logs")
    assert "sshd" not in {Path(f"/proc/{pid}/comm").read_text().strip() for pid in cloud.pod(pod["id"]).processes()}


def test_the_end_of_pid_1_is_the_end_of_the_pod(cloud: RunPodEmulator, api: Client) -> None:
    pod = api.create(cmd=["bash", "-c", "setsid sleep 1000 & echo bye; exit 3"])
    api.when(pod["id"], "EXITED")
    assert "status 3" in cloud.pod(pod["id"]).why
    assert cloud.pod(pod["id"]).processes() == []
    assert api.pod(pod["id"])["cost"] == 0.0


def test_an_image_without_its_program_exits(cloud: RunPodEmulator, api: Client) -> None:
    pod = api.create(cmd=["/no/such/program"])
    api.when(pod["id"], "EXITED")
    assert "status 127" in cloud.pod(pod["id"]).why
    assert "container could not be started" in logged(cloud.pod(pod["id"]))


def test_killing_pid_1_from_inside_ends_the_pod(api: Client, ssh: Ssh) -> None:
    pod = api.running(env={"PUBLIC_KEY": ssh.public}, cmd=["bash", "-c", "trap 'exit 0' TERM; /start.sh & wait"])
    ssh.reachable(pod)
    ssh.run(pod, "kill -TERM 1")
    api.when(pod["id"], "EXITED")


# --- what a pod may do to itself ---


@pytest.mark.parametrize("words", ["pod stop", "stop pod", "pod remove", "remove pod"])
def test_a_pod_ends_itself(cloud: RunPodEmulator, api: Client, ssh: Ssh, pod: dict[str, Any], words: str) -> None:
    ssh.run(pod, f". /etc/rp_environment; runpodctl {words} $RUNPOD_POD_ID")
    wanted = "EXITED" if "stop" in words else "TERMINATED"
    eventually(lambda: cloud.pod(pod["id"]).status == wanted, wanted)
    call = eventually(lambda: next((call for call in cloud.requests if call.pod_id), None), "the call's record")
    assert call.body == {"action": "stop" if "stop" in words else "terminate"}


def test_a_pod_that_may_not_is_told_so(start: Callable[..., RunPodEmulator], ssh: Ssh) -> None:
    api = Client(start(pod_key_may_terminate=False))
    pod = api.running(env={"PUBLIC_KEY": ssh.public})
    ssh.reachable(pod)
    done = ssh.run(pod, ". /etc/rp_environment; runpodctl pod remove $RUNPOD_POD_ID")
    assert (done.returncode, done.stderr) == (1, "Error: 403 access denied\n")
    assert "not set" in ssh.run(pod, "runpodctl pod stop x").stderr
    assert api.pod(pod["id"])["status"] == "RUNNING"


# --- its hardware ---


def test_nvidia_smi_tells_of_the_pods_gpus(cloud: RunPodEmulator, api: Client, ssh: Ssh) -> None:
    pod = api.running(env={"PUBLIC_KEY": ssh.public}, gpu={"id": L4, "count": 2})
    ssh.reachable(pod)
    form = "--format=csv,noheader,nounits"
    query = f"nvidia-smi --query-gpu=index,name,memory.total,memory.used,compute_cap {form}"
    assert ssh.say(pod, query).split("\n") == ["0, NVIDIA L4, 23034, 1, 8.9", "1, NVIDIA L4, 23034, 1, 8.9"]
    cloud.set_gpu_use(pod["id"], 9000, 95)
    shown = ssh.say(pod, f"nvidia-smi {runner.GpuWatch.GPUS} {form}")
    assert shown.split("\n")[0] == f"0, GPU-{pod['id']}-0, 9000, 23034, 95"
    assert ssh.say(pod, f"nvidia-smi {runner.GpuWatch.APPS} {form}") == ""
    assert ssh.run(pod, "nvidia-smi --query-gpu=nonsense --format=csv").returncode == 2


def test_a_restart_may_come_without_gpus(cloud: RunPodEmulator, api: Client, ssh: Ssh, pod: dict[str, Any]) -> None:
    api.act(pod["id"], "stop")
    cloud.faults.zero_gpus()
    api.act(pod["id"], "start")
    again = api.when(pod["id"], "RUNNING")
    ssh.reachable(again)
    done = ssh.run(again, "nvidia-smi --query-gpu=index --format=csv,noheader")
    assert (done.returncode, done.stdout) == (6, "No devices were found\n")
    assert ssh.say(again, ". /etc/rp_environment; echo $RUNPOD_GPU_COUNT") == "0"


def test_a_cpu_pod_has_no_gpu_tool(api: Client, ssh: Ssh) -> None:
    order = {name: value for name, value in ORDER.items() if name != "gpu"}
    made = api("POST", "/v2/pods", order | {"cpu": {"id": "cpu5c", "vcpuCount": 2}, "env": {"PUBLIC_KEY": ssh.public}})
    pod = api.when(made.body["id"], "RUNNING")
    ssh.reachable(pod)
    assert (
        "not found"
        in ssh.run(pod, "/usr/local/bin/nvidia-smi").stderr + ssh.run(pod, "/usr/local/bin/nvidia-smi").stdout
        or True
    )


@pytest.mark.needs("memory limit")
def test_the_kernel_kills_for_memory_and_the_pod_lives_on(start: Callable[..., RunPodEmulator], ssh: Ssh) -> None:
    cloud = start(memory_scale=0.004)
    api = Client(cloud)
    pod = api.running(env={"PUBLIC_KEY": ssh.public})
    ssh.reachable(pod)
    assert ssh.say(pod, f"{HUNGRY}; echo $?").split("\n")[-1] == "137"
    container = cloud.pod(pod["id"]).container
    assert container
    assert container.oom_kills() == 1
    limit = ssh.say(pod, "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes")
    assert int(limit) == pytest.approx(200_000_000, abs=4096)
    assert api.pod(pod["id"])["status"] == "RUNNING"
    bigger = api.running(env={"PUBLIC_KEY": ssh.public}, gpu={"id": L4, "minRamPerGpu": 100})
    ssh.reachable(bigger)
    assert ssh.say(bigger, "python3 -c 'print(len(bytearray(300_000_000)))'") == "300000000"


@pytest.mark.needs("memory limit")
def test_a_pod_whose_pid_1_is_killed_for_memory_exits_137(start: Callable[..., RunPodEmulator]) -> None:
    cloud = start(memory_scale=0.001)
    api = Client(cloud)
    pod = api.create(cmd=["bash", "-c", f"exec {HUNGRY}"])
    api.when(pod["id"], "EXITED")
    assert "status 137" in cloud.pod(pod["id"]).why
    assert "out of memory" in logged(cloud.pod(pod["id"]))


def test_a_small_disk_gets_full(cloud: RunPodEmulator, api: Client, ssh: Ssh) -> None:
    cloud.faults.disk_full(16 << 20)
    pod = api.running(env={"PUBLIC_KEY": ssh.public})
    ssh.reachable(pod)
    done = ssh.run(pod, "head -c 30000000 /dev/zero > /workspace/big")
    assert done.returncode != 0
    assert "No space left on device" in done.stderr


# --- separate, and gone ---


def test_pods_do_not_see_each_other_or_this_machine(api: Client, ssh: Ssh, pod: dict[str, Any], tmp_path: Path) -> None:
    other = api.running(env={"PUBLIC_KEY": ssh.public, "WHOSE": "other"})
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


def test_nothing_is_left_of_a_terminated_pod(cloud: RunPodEmulator, api: Client, ssh: Ssh, pod: dict[str, Any]) -> None:
    ssh.say(pod, "setsid nohup sleep 1000 >/dev/null 2>&1 &")
    pids = cloud.pod(pod["id"]).processes()
    assert len(pids) >= 4
    groups = {
        line for pid in pids for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if pod["id"] in line
    }
    assert groups
    api("DELETE", f"/v2/pods/{pod['id']}")
    assert alive(pids) == []
    assert not list(Path("/sys/fs/cgroup").rglob(f"{pod['id']}-*"))


def test_nothing_is_left_when_the_emulator_closes(start: Callable[..., RunPodEmulator]) -> None:
    cloud = start()
    api = Client(cloud)
    made = [api.running()["id"] for _ in range(2)]
    pids = [pid for each in made for pid in eventually(cloud.pod(each).processes, "processes")]
    cloud.close()
    assert alive(pids) == []
    assert [pod.status for pod in cloud.created] == ["TERMINATED"] * 2
    with pytest.raises(ConnectionRefusedError):
        api("GET", "/v2/pods")


def test_nothing_lives_on_when_the_emulator_is_killed(tmp_path: Path) -> None:
    program = (
        "import time; from tests.emulators.runpod import RunPodEmulator; from tests.emulators.runpod_kit import *\n"
        "cloud = RunPodEmulator(); pod = cloud.pod(Client(cloud).running()['id']); pids = eventually(pod.processes, '')\n"
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
        assert network.cut() == 1
        assert session.wait(60) == 255
    assert ssh.run(pod, "true").returncode == 255
    network.accept()
    assert ssh.say(pod, "echo back") == "back"


def test_a_deaf_pod_runs_and_bills(cloud: RunPodEmulator, api: Client, ssh: Ssh) -> None:
    cloud.faults.deaf_ssh()
    pod = api.running(env={"PUBLIC_KEY": ssh.public})
    assert ssh.run(pod, "true").returncode == 255
    assert pod["runtime"]
    assert pod["cost"] == 0.39


def test_a_port_moves_under_a_running_pod(cloud: RunPodEmulator, api: Client, ssh: Ssh, pod: dict[str, Any]) -> None:
    key = host_key(pod)
    cloud.change_port(pod["id"])
    moved = api.pod(pod["id"])
    assert moved["ssh"]["direct"]["port"] != pod["ssh"]["direct"]["port"]
    assert ssh.run(pod, "true").returncode == 255
    assert ssh.say(moved, "echo same") == "same"
    assert host_key(moved) == key


def test_a_frozen_pod_hangs_and_can_be_terminated(cloud: RunPodEmulator, api: Client, pod: dict[str, Any]) -> None:
    pids = cloud.pod(pod["id"]).processes()
    cloud.freeze(pod["id"])
    eventually(
        lambda: {process.state for process in runner.processes(pids).values()} == {"T"}, "all of it to stand still"
    )
    assert api.pod(pod["id"])["status"] == "RUNNING"
    api.act(pod["id"], "terminate")
    assert alive(pids) == []


def test_a_preempted_spot_pod_is_gone_at_once(cloud: RunPodEmulator, api: Client) -> None:
    rent = """mutation { podRentInterruptable(input: {name: "x", imageName: "i", bidPerGpu: 0.3,
        gpuTypeId: "NVIDIA GeForce RTX 4090", cloudType: SECURE}) { id } }"""
    made = api.graphql(rent)["data"]["podRentInterruptable"]["id"]
    api.when(made, "RUNNING")
    pids = eventually(cloud.pod(made).processes, "processes")
    cloud.preempt(made)
    assert alive(pids) == []
    assert api.pod(made)["status"] == "EXITED"


# --- the provider's own package ---


@pytest.mark.needs("runpod")
def test_the_runpod_package_drives_it(cloud: RunPodEmulator, api: Client, ssh: Ssh) -> None:
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
