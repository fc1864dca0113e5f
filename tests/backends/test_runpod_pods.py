"""Pods as machines: what runs there first, how they are reached, and that they end themselves."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runpod_kit import PATIENCE, rented, sooner_or_later, until

from backends.base import Fate, Gone, Lease, RunPhase, Transient
from backends.runpod.backend import RunpodBackend
from backends.runpod.boot import boot_script, end_pod_script, one_argument
from backends.runpod.requests import Wish, create_pod
from tests.emulators.runpod_kit import Client, Ssh

LONG = 3600.0


def shell(backend: RunpodBackend, lease: Lease, command: str) -> str:
    """What a command in the pod prints, run as the user's own job would be."""
    machine = sooner_or_later(lambda: backend.connect(lease))
    said = machine._connection.run(
        command, limit=1 << 20
    )  # the channel's own way in: no second client, no second host key
    return said.out.decode()


def log_of(cloud, pod_id: str) -> str:
    return "\n".join(line.text for line in cloud.pod(pod_id).logs.after(0))


def test_a_job_runs_in_a_pod_and_its_results_come_home(machines, opened, tmp_path):
    backend = opened(machines)
    lease = rented(backend)
    machine = sooner_or_later(lambda: backend.connect(lease))
    tree = tmp_path / "tree"
    (tree / "work").mkdir(parents=True)
    (tree / "job.json").write_text(
        '{"version": 1, "key": "job-abcde-a1", "run": "nvidia-smi -L > result.txt; echo $RUNPOD_POD_ID >> result.txt",'
        ' "env": {}, "secret_names": [], "base_env": {"PATH": "/usr/local/bin:/usr/bin:/bin"}, "inputs": null,'
        ' "setup": null, "limits": {"runtime": 60, "log_bytes": 100000}, "sample_every": 0.25}'
    )
    machine.push(tree, "job-abcde-a1", lambda done, of: None)
    machine.start("job-abcde-a1", {})
    until(lambda: machine.status("job-abcde-a1").phase is RunPhase.ENDED, "the run ended")
    assert machine.pull("job-abcde-a1/work/result.txt", tmp_path / "result.txt", lambda done, of: None)
    assert "RTX 4090" in (tmp_path / "result.txt").read_text()
    backend.delete(lease)
    assert not machines.pods()


def test_the_pod_ends_itself_when_its_time_is_over_and_nobody_watches(machines, opened):
    backend = opened(machines)
    lease = rented(backend, max_seconds=6.0)
    until(lambda: not machines.pods(), "the pod is terminated")
    assert backend.fate(lease) is Fate.GONE
    with pytest.raises(Gone):
        backend.connect(lease)


def test_without_the_right_to_terminate_it_ends_its_container(machines, opened):
    machines.settings.pod_key_may_terminate = False
    backend = opened(machines)
    lease = rented(backend, max_seconds=14.0)
    until(lambda: backend.fate(lease) is Fate.ENDED, "the pod has stopped")
    assert machines.pod(lease.id).usd_h == 0.0
    backend.delete(lease)
    assert not machines.pods()


def test_a_pod_that_is_started_again_after_its_end_ends_again(machines, opened):
    machines.settings.pod_key_may_terminate = False
    backend = opened(machines)
    lease = rented(backend, max_seconds=14.0)
    until(lambda: backend.fate(lease) is Fate.ENDED, "the pod has stopped")
    Client(machines).act(lease.id, "start")
    until(lambda: machines.pod(lease.id).generation > 1, "started again")
    until(lambda: backend.fate(lease) is Fate.ENDED, "it has ended again")
    assert "ready" not in log_of(machines, lease.id).rpartition("Resumed by user")[2]


def test_a_job_that_kills_everything_does_not_keep_the_pod_alive(machines, opened):
    backend = opened(machines)
    lease = rented(backend, max_seconds=25.0)
    shell(backend, lease, "kill -KILL -1")
    until(lambda: not machines.pods(), "the pod is terminated")


def test_the_runners_stop_command_ends_the_pod_without_showing_its_key(machines, opened):
    backend = opened(machines)
    lease = rented(backend, max_seconds=LONG)
    (stop,) = lease.details["stop"]
    shell(backend, lease, "true")
    machines.faults.server_errors(times=1000, path=f"/v2/pods/{lease.id}")  # so that all of its ways are tried
    watch = "while :; do cat /proc/[0-9]*/cmdline; done 2>/dev/null >/tmp/seen & watcher=$!; "
    look = "; kill $watcher; tr '\\0' '\\n' </tmp/seen | grep -v '^#' | sort -u | head -c 60000"
    alone = shlex.quote(stop.replace("/var/tmp/gpujob-over", "/tmp/unseen"))  # else the guard helps, and ends it first
    shown = shell(backend, lease, f"{watch} sh -c {alone} >/dev/null 2>&1 {look}")
    assert {"curl", "--config"} <= set(shown.split())
    assert machines.pod(lease.id).key not in shown
    machines.faults.clear()
    with contextlib.suppress(Transient):  # the pod may be gone before it can answer
        shell(backend, lease, stop)
    until(lambda: not machines.pods(), "the pod is terminated")


def test_the_port_and_the_host_key_change_with_a_restart_and_both_are_followed(machines, opened):
    backend = opened(machines)
    lease = rented(backend)
    assert shell(backend, lease, "echo up") == "up\n"
    port = machines.pod(lease.id).ssh.port
    Client(machines).act(lease.id, "restart")
    until(lambda: machines.pod(lease.id).up, "up again")
    assert shell(backend, lease, "echo again") == "again\n"
    assert machines.pod(lease.id).ssh.port != port


def test_an_image_without_start_script_gets_its_sshd_all_the_same(machines, opened, tmp_path):
    ssh = Ssh(tmp_path)
    end = int(time.time()) + 600
    env = {"PUBLIC_KEY": ssh.public, "GPUJOB_ENDS_AT": str(end), "GPUJOB_MAX_SECONDS": "600", "CANARY": 'it\'s "here"'}
    boot = "rm /start.sh\n" + boot_script()
    client = Client(machines)
    wish = Wish("plain", "debian:13", boot, env, 10, gpu="NVIDIA L4", gpu_count=1)
    made = client("POST", "/v2/pods", create_pod(wish).body).body
    pod = client.when(made["id"], "RUNNING")
    ssh.reachable(pod)
    assert ssh.say(pod, '. /etc/rp_environment; echo "$CANARY $RUNPOD_POD_ID"') == f'it\'s "here" {made["id"]}'
    client.act(made["id"], "terminate")


def test_an_image_in_which_no_sshd_can_be_had_says_so_and_costs_nothing_more(machines):
    boot = "rm /start.sh\nmkdir /empty\nmount() { :; }\n" + boot_script().replace("/usr/sbin/sshd", "/empty/sshd")
    boot = boot.replace("command -v apt-get", "command -v no-such-program").replace("command -v apk", "command -v none")
    end = {"GPUJOB_ENDS_AT": str(int(time.time()) + 600), "GPUJOB_MAX_SECONDS": "600"}
    client = Client(machines)
    wish = Wish("bare", "scratch", boot, end, 10, gpu="NVIDIA L4", gpu_count=1)
    made = client("POST", "/v2/pods", create_pod(wish).body).body
    until(lambda: not machines.pods(), "the pod is terminated")
    assert "no sshd is in this image" in log_of(machines, made["id"])


def test_the_scripts_are_understood_by_every_shell(tmp_path):
    for number, script in enumerate((boot_script(), end_pod_script())):
        path = tmp_path / f"{number}.sh"
        path.write_text(script)
        for program in ("sh", "bash", "dash"):
            if subprocess.run(["sh", "-c", f"command -v {program}"], capture_output=True).returncode == 0:
                assert subprocess.run([program, "-n", str(path)], capture_output=True, text=True).stderr == ""


def test_as_one_argument_the_script_is_the_same_and_holds_nothing_to_escape():
    line = one_argument('echo "it\'s $((1 + 1))"\n')
    assert not set('"\\\n') & set(line)
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == "it's 2\n"


def test_the_scripts_are_packaged():
    """Read from where an installed package has them."""
    folder = Path(sys.modules["backends.runpod"].__file__).parent
    assert {path.name for path in folder.iterdir()} >= {"boot.sh", "end_pod.sh", "gpus.csv", "prices.csv"}
