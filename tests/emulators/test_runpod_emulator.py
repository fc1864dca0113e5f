"""Pods are real machines: reachable, separate, limited, and gone when they should be."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest

from backends.runner import runner
from tests.emulators.runpod import RunPodEmulator
from tests.emulators.runpod_kit import L4, ORDER, Client, Ssh, eventually, host_key, logged

pytestmark = pytest.mark.needs("guests")
HUNGRY = "python3 -c 'held = []\nwhile True: held.append(bytearray(4_000_000))'"


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


def test_each_start_has_a_new_host_key_a_new_port_and_a_wiped_disk(account: Client, ssh: Ssh) -> None:
    pod = account.running(env={"PUBLIC_KEY": ssh.public}, mounts={"persistent": {"size": 10, "path": "/workspace"}})
    ssh.reachable(pod)
    ssh.say(pod, "touch /root/lost /workspace/kept")
    before = host_key(pod)
    for action in ("restart", "stop"):
        account.act(pod["id"], action)
        if action == "stop":
            account.act(pod["id"], "start")
        again = account.when(pod["id"], "RUNNING")
        ssh.reachable(again)
        assert ssh.say(again, "ls /root /workspace").split() == ["/root:", "/workspace:", "kept"]
        assert again["ssh"]["direct"]["port"] != pod["ssh"]["direct"]["port"]
        assert host_key(again) != before
        pod, before = again, host_key(again)


def test_without_a_key_there_is_no_ssh(cloud: RunPodEmulator, account: Client) -> None:
    pod = account.running()
    eventually(lambda: "ready to use" in logged(cloud.pod(pod["id"])), "the start script's end")
    at = pod["ssh"]["direct"]
    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection((at["host"], at["port"]), timeout=60) as connection,
    ):
        connection.recv(1)


# --- the start command ---


def test_a_start_command_is_pid_1_and_may_go_on_with_the_images_own(account: Client, ssh: Ssh) -> None:
    pod = account.running(
        env={"PUBLIC_KEY": ssh.public}, cmd=["bash", "-c", "echo mine > /root/before; exec /start.sh"]
    )  # fmt: skip
    ssh.reachable(pod)
    assert ssh.say(pod, "cat /root/before; tr '\\0' ' ' < /proc/1/cmdline").split("\n") == [
        "mine",
        "/bin/bash /start.sh",
    ]


@pytest.mark.parametrize(
    "override",
    [
        {"args": "bash -c 'echo mine alone; sleep 1000'"},
        {"entrypoint": ["sh", "-c"], "cmd": ["echo mine alone; sleep 1000"]},
    ],
)
def test_a_start_command_that_starts_no_sshd_gives_none(
    cloud: RunPodEmulator, account: Client, override: dict[str, Any]
) -> None:
    pod = account.running(env={"PUBLIC_KEY": "ssh-ed25519 A"}, **override)
    eventually(lambda: "mine alone" in logged(cloud.pod(pod["id"])), "its output in the logs")
    assert "sshd" not in {Path(f"/proc/{pid}/comm").read_text().strip() for pid in cloud.pod(pod["id"]).processes()}


def test_the_end_of_pid_1_is_the_end_of_the_pod(cloud: RunPodEmulator, account: Client) -> None:
    pod = account.create(cmd=["bash", "-c", "setsid sleep 1000 & echo bye; exit 3"])
    account.when(pod["id"], "EXITED")
    assert "status 3" in cloud.pod(pod["id"]).why
    assert cloud.pod(pod["id"]).processes() == []
    assert account.pod(pod["id"])["cost"] == 0.0


def test_an_image_without_its_program_exits(cloud: RunPodEmulator, account: Client) -> None:
    pod = account.create(cmd=["/no/such/program"])
    account.when(pod["id"], "EXITED")
    assert "status 127" in cloud.pod(pod["id"]).why
    assert "container could not be started" in logged(cloud.pod(pod["id"]))


def test_killing_pid_1_from_inside_ends_the_pod(account: Client, ssh: Ssh) -> None:
    pod = account.running(env={"PUBLIC_KEY": ssh.public}, cmd=["bash", "-c", "trap 'exit 0' TERM; /start.sh & wait"])
    ssh.reachable(pod)
    ssh.run(pod, "kill -TERM 1")
    account.when(pod["id"], "EXITED")


# --- what a pod may do to itself ---


@pytest.mark.parametrize("words", ["pod stop", "stop pod", "pod remove", "remove pod"])
def test_a_pod_ends_itself(cloud: RunPodEmulator, account: Client, ssh: Ssh, pod: dict[str, Any], words: str) -> None:
    ssh.run(pod, f". /etc/rp_environment; runpodctl {words} $RUNPOD_POD_ID")
    wanted = "EXITED" if "stop" in words else "TERMINATED"
    eventually(lambda: cloud.pod(pod["id"]).status == wanted, wanted)
    call = eventually(lambda: next((call for call in cloud.requests if call.pod_id), None), "the call's record")
    assert call.body == {"action": "stop" if "stop" in words else "terminate"}


def test_a_pod_that_may_not_is_told_so(start: Callable[..., RunPodEmulator], ssh: Ssh) -> None:
    account = Client(start(pod_key_may_terminate=False))
    pod = account.running(env={"PUBLIC_KEY": ssh.public})
    ssh.reachable(pod)
    done = ssh.run(pod, ". /etc/rp_environment; runpodctl pod remove $RUNPOD_POD_ID")
    assert (done.returncode, done.stderr) == (1, "Error: 403 access denied\n")
    assert "not set" in ssh.run(pod, "runpodctl pod stop x").stderr
    assert account.pod(pod["id"])["status"] == "RUNNING"


# --- its hardware ---


def test_nvidia_smi_tells_of_the_pods_gpus(cloud: RunPodEmulator, account: Client, ssh: Ssh) -> None:
    pod = account.running(env={"PUBLIC_KEY": ssh.public}, gpu={"id": L4, "count": 2})
    ssh.reachable(pod)
    form = "--format=csv,noheader,nounits"
    query = f"nvidia-smi --query-gpu=index,name,memory.total,memory.used,compute_cap {form}"
    assert ssh.say(pod, query).split("\n") == ["0, NVIDIA L4, 23034, 1, 8.9", "1, NVIDIA L4, 23034, 1, 8.9"]
    cloud.set_gpu_use(pod["id"], 9000, 95)
    shown = ssh.say(pod, f"nvidia-smi {runner.GpuWatch.GPUS} {form}")
    assert shown.split("\n")[0] == f"0, GPU-{pod['id']}-0, 9000, 23034, 95"
    assert ssh.say(pod, f"nvidia-smi {runner.GpuWatch.APPS} {form}") == ""
    assert ssh.run(pod, "nvidia-smi --query-gpu=nonsense --format=csv").returncode == 2


def test_the_api_shows_what_the_pod_uses(cloud: RunPodEmulator, account: Client, ssh: Ssh, pod: dict[str, Any]) -> None:
    assert account.pod(pod["id"])["runtime"]["gpus"] == [{"util": 0, "memoryUtil": 0}]
    ssh.say(pod, "setsid sh -c 'while :; do :; done' >/dev/null 2>&1 &")
    cloud.set_gpu_use(pod["id"], 23034 // 2, 80)
    assert account.pod(pod["id"])["runtime"]["gpus"] == [{"util": 80, "memoryUtil": 50}]
    eventually(lambda: account.pod(pod["id"])["runtime"]["cpu"]["util"] > 0, "a busy CPU")


def test_a_restart_may_come_without_gpus(cloud: RunPodEmulator, account: Client, ssh: Ssh, pod: dict[str, Any]) -> None:
    account.act(pod["id"], "stop")
    cloud.faults.zero_gpus()
    account.act(pod["id"], "start")
    again = account.when(pod["id"], "RUNNING")
    ssh.reachable(again)
    done = ssh.run(again, "nvidia-smi --query-gpu=index --format=csv,noheader")
    assert (done.returncode, done.stdout) == (6, "No devices were found\n")
    assert ssh.say(again, ". /etc/rp_environment; echo $RUNPOD_GPU_COUNT") == "0"


def test_a_cpu_pod_has_no_gpu_tool(account: Client, ssh: Ssh) -> None:
    order = {name: value for name, value in ORDER.items() if name != "gpu"}
    made = account(
        "POST", "/v2/pods", order | {"cpu": {"id": "cpu5c", "vcpuCount": 2}, "env": {"PUBLIC_KEY": ssh.public}}
    )
    pod = account.when(made.body["id"], "RUNNING")
    ssh.reachable(pod)
    assert (
        "not found"
        in ssh.run(pod, "/usr/local/bin/nvidia-smi").stderr + ssh.run(pod, "/usr/local/bin/nvidia-smi").stdout
        or True
    )


@pytest.mark.needs("memory limit")
def test_the_kernel_kills_for_memory_and_the_pod_lives_on(start: Callable[..., RunPodEmulator], ssh: Ssh) -> None:
    cloud = start(memory_scale=0.004)
    account = Client(cloud)
    pod = account.running(env={"PUBLIC_KEY": ssh.public})
    ssh.reachable(pod)
    assert ssh.say(pod, f"{HUNGRY}; echo $?").split("\n")[-1] == "137"
    container = cloud.pod(pod["id"]).container
    assert container
    assert container.oom_kills() == 1
    limit = ssh.say(pod, "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes")
    assert int(limit) == pytest.approx(200_000_000, abs=4096)
    assert account.pod(pod["id"])["status"] == "RUNNING"
    bigger = account.running(env={"PUBLIC_KEY": ssh.public}, gpu={"id": L4, "minRamPerGpu": 100})
    ssh.reachable(bigger)
    assert ssh.say(bigger, "python3 -c 'print(len(bytearray(300_000_000)))'") == "300000000"


@pytest.mark.needs("memory limit")
def test_a_pod_whose_pid_1_is_killed_for_memory_exits_137(start: Callable[..., RunPodEmulator]) -> None:
    cloud = start(memory_scale=0.001)
    account = Client(cloud)
    pod = account.create(cmd=["bash", "-c", f"exec {HUNGRY}"])
    account.when(pod["id"], "EXITED")
    assert "status 137" in cloud.pod(pod["id"]).why
    assert "out of memory" in logged(cloud.pod(pod["id"]))


def test_a_small_disk_gets_full(cloud: RunPodEmulator, account: Client, ssh: Ssh) -> None:
    cloud.faults.disk_full(16 << 20)
    pod = account.running(env={"PUBLIC_KEY": ssh.public})
    ssh.reachable(pod)
    done = ssh.run(pod, "head -c 30000000 /dev/zero > /workspace/big")
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
