"""Jobs on RunPod from the first command to the last cent: real workers, an emulated provider, pods that are machines.

After each of them: no pod is left, our books are never below RunPod's meter and never above what was reserved.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_kit import Gpujob, eventually, user_in

from tests.emulators.runpod import RunPodEmulator

pytestmark = [pytest.mark.needs("guests"), pytest.mark.timeout(400)]

NEEDS = "needs: {gpu: {count: 1, vram: 20 GB}}"
RUNTIME = "limits: {runtime: 3m}"
CPU = "needs: {gpu: none, ram: 2 GB}"
RENT = ("--backend", "runpod", "--priority", "cost", "--yes")
RTX_4090, A5000 = "NVIDIA GeForce RTX 4090", "NVIDIA RTX A5000"


@pytest.fixture
def cloud() -> Iterator[RunPodEmulator]:
    with RunPodEmulator(memory_scale=0.05, starting_seconds=0.2) as emulator:
        emulator.catalog.gpus = [gpu for gpu in emulator.catalog.gpus if gpu.id in (A5000, RTX_4090)]
        yield emulator


@pytest.fixture
def user(tmp_path: Path, cloud: RunPodEmulator) -> Iterator[Gpujob]:
    with user_in(tmp_path) as someone:
        someone.env = {"RUNPOD_API_BASE_URL": cloud.url, "RUNPOD_API_KEY": cloud.key}
        yield someone
        check_books(someone, cloud)


def check_books(user: Gpujob, cloud: RunPodEmulator) -> None:
    assert cloud.pods() == []
    with sqlite3.connect(user.home / "journal.sqlite") as journal:
        rows = journal.execute("SELECT key, cost_micros, reserved_micros FROM attempt").fetchall()
    journal.close()
    names = {pod.id: pod.order.name.removeprefix("gpujob-") for pod in cloud.created}
    for key, booked, reserved in rows:
        metered = sum(cloud.meter(pod).total * 1e6 for pod, name in names.items() if name == key)
        assert metered <= booked + 1, (key, metered, booked)
        assert booked <= reserved, (key, booked, reserved)
    for path in user.home.rglob("*"):
        if path.is_file() and path.stat().st_size < 1 << 24:
            assert cloud.key.encode() not in path.read_bytes(), path


def attempts(detail) -> list[tuple[str, str]]:
    return [(attempt["offer"], attempt["outcome"]) for attempt in detail["attempts"]]


def runs(pid: int, command: str) -> bool:
    with contextlib.suppress(OSError):  # over by now
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip() == command.encode()
    return False


def test_a_job_goes_there_and_comes_home(user, cloud):
    spec = user.job("mkdir -p out; nvidia-smi -L > out/gpu; cat /etc/hostname; cat in.txt > out/in", NEEDS, RUNTIME)
    user.write("job/in.txt", "taken along")
    done = user.run("submit", spec, "--budget", "1", *RENT, "--json")
    assert "RUNPOD_API_KEY is set in this terminal only" in done.stderr
    detail = json.loads(done.stdout)
    assert detail["state"] == "succeeded"
    assert attempts(detail) == [("community RTX A5000", "succeeded")]
    (pod,) = cloud.created
    assert user.text("logs", detail["id"]).strip() == pod.id
    user.run("results", detail["id"], "got")
    assert "RTX A5000" in (user.cwd / "got/out/gpu").read_text()
    assert (user.cwd / "got/out/in").read_text() == "taken along"
    assert "Everything that is rented is accounted for" in user.text("reap")


def test_out_of_memory_in_a_small_pod_is_repaired_by_a_bigger_one(user, cloud):
    """A CPU pod's advertised 4 GB are 200 MB here, which the kernel enforces."""
    hungry = "mkdir -p out; python3 -c 'b = bytearray(250 << 20); b[::4096] = b[::4096]; print(len(b))' > out/size"
    detail = user.submit(user.job(hungry, CPU, RUNTIME), *RENT)
    assert detail["state"] == "succeeded"
    assert attempts(detail)[0][1] == "oom_host"
    sizes = [pod.place.ram_gb for pod in cloud.created]
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]


def test_where_none_is_free_the_next_offer_is_rented(user, cloud):
    cloud.faults.no_capacity(gpu=A5000)
    detail = user.submit(user.job("mkdir -p out; echo > out/a", NEEDS, RUNTIME), *RENT)
    assert detail["state"] == "succeeded"
    assert attempts(detail)[0] == ("community RTX A5000", "no_capacity")
    assert {pod.order.gpu for pod in cloud.created} != {A5000}


def test_a_rental_whose_reply_is_lost_is_one_rental(user, cloud):
    cloud.faults.lost_reply()
    detail = user.submit(user.job("mkdir -p out; echo > out/a", NEEDS, RUNTIME), *RENT)
    assert attempts(detail) == [("community RTX A5000", "succeeded")]
    assert len(cloud.created) == 1


def test_a_pod_that_never_comes_up_is_given_back_and_another_place_is_tried(user, cloud):
    user.run("config", "set", "attempt.start_deadline", "25s")
    cloud.faults.never_ready()
    detail = user.submit(user.job("mkdir -p out; echo > out/a", NEEDS, RUNTIME), *RENT)
    assert detail["state"] == "succeeded"
    assert [outcome for _, outcome in attempts(detail)] == ["unreachable", "succeeded"]
    first, second = cloud.created
    assert (first.order.gpu, first.place.data_center) != (second.order.gpu, second.place.data_center)


def test_a_spot_pod_that_is_taken_back_is_told_as_such(user, cloud):
    user.run("config", "set", "runpod.spot", "yes")
    cloud.faults.preemption(after=8.0)
    detail = user.submit(user.job("mkdir -p out; sleep 20; echo > out/a", NEEDS, RUNTIME), *RENT)
    assert detail["state"] == "succeeded"
    assert attempts(detail)[0][0].startswith("spot ")
    assert attempts(detail)[0][1] == "preempted"


def test_bad_weather_is_sat_out(user, cloud):
    cloud.faults.too_many_requests()
    cloud.faults.server_errors(method="GET")
    cloud.faults.server_errors(times=1, method="DELETE")
    detail = user.submit(user.job("mkdir -p out; echo > out/a", NEEDS, RUNTIME), *RENT)
    assert attempts(detail) == [("community RTX A5000", "succeeded")]


def test_a_worker_that_dies_for_good_leaves_no_pod_that_costs(user, cloud):
    """The laptop is gone: the pod ends itself, within what was reserved."""
    short = "limits: {runtime: 15s}"
    user.run("config", "set", "attempt.linger", "3s")
    job = user.detached(user.job("mkdir -p out; sleep 600", NEEDS, short), *RENT)
    eventually(lambda: any(runs(pid, "sleep 600") for pod in cloud.pods() for pid in pod.processes()), "the job runs")
    user.stop_workers(9)
    eventually(lambda: not cloud.pods() or not cloud.pods()[0].billed, "the pod has ended itself")
    user.run("resume", job, "--detach")
    assert user.ended(job)["state"] == "failed"
