"""The worker is killed at points of a job on a rented machine; another finishes it. See test_crash_points.py.

Afterwards no machine is left, none was rented twice, the money is within the reservation and not below the provider's
meter, and no result is lost.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_kit import Told, Zygote, stride, sweep
from rented_kit import Rented, check_money, check_nothing_rented, provider_installed

SUCCEEDS = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir -p results/deep checkpoints; cp input results/deep/copy;"
    " echo half > checkpoints/state",
    "results": ["results/"],
    "checkpoints": ["checkpoints/"],
    "limits": {"runtime": "1m"},
}
INPUT = bytes(range(256)) * 16

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True)
def provider() -> Iterator[None]:
    with provider_installed():
        yield


def crash_and_recover(place: Rented, zygote: Zygote, number: int) -> bool:
    """True if the worker died at its ``number``-th point; then another has finished its work."""
    status = zygote.worker(place, number)
    if status:
        assert status == -signal.SIGKILL
        assert zygote.worker(place) == 0, (place.home.root / "worker.out").read_text()
    return bool(status)


def check(place: Rented, job: str, outcomes: list[str]) -> None:
    assert place.job(job)["state"] == "succeeded", place.job(job)["summary"]
    assert place.outcomes(job) == outcomes
    assert place.results(job, len(outcomes)) == {"results/deep/copy": INPUT}
    assert place.runs() == [f"{job}-a{len(outcomes)}"], "the command ran once"
    leases = place.rows("SELECT * FROM lease ORDER BY attempt_id")
    assert [row["state"] for row in leases] == ["gone"] * len(outcomes)
    check_nothing_rented(place)
    check_money(place, job)


def test_a_succeeding_job_on_a_rented_machine(tmp_path: Path, record_property: Told) -> None:
    def crash(place: Rented, zygote: Zygote, number: int) -> bool:
        place.home.config.write_text('[attempt]\nkeep_every = "0s"\n')
        job = place.rent({**SUCCEEDS, "run": f"{SUCCEEDS['run']}; sleep 1"}, {"input": INPUT})
        crashed = crash_and_recover(place, zygote, number)
        check(place, job, ["succeeded"])
        assert (place.home.checkpoints(job, 1) / "checkpoints/state").read_bytes() == b"half\n"
        folder = place.home.attempt(job, 1)
        assert {path.name for path in folder.iterdir() if path.is_dir()} == {"files", "checkpoints"}
        return crashed

    record_property("crash_points", sweep(tmp_path, crash, Rented, every=stride(7)))


def test_a_lost_reply_and_a_machine_that_is_never_reachable(tmp_path: Path, record_property: Told) -> None:
    """The first machine is paid for in vain, and the reply to its creation does not come either."""

    def crash(place: Rented, zygote: Zygote, number: int) -> bool:
        place.home.config.write_text('[attempt]\nstart_deadline = "0s"\n')
        place.cloud.set_fault("never_ready", "here-1")
        place.cloud.set_fault("create_lost", "1")
        job = place.rent(SUCCEEDS, {"input": INPUT})
        crashed = crash_and_recover(place, zygote, number)
        check(place, job, ["unreachable", "succeeded"])
        assert [m["place"] for m in place.cloud.machines()] == ["here-1", "there-2"]
        return crashed

    record_property("crash_points", sweep(tmp_path, crash, Rented, first=2, every=stride(9)))
