"""What comes home costs money at some providers: it is counted, charged, and never more than is reserved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_kit import end_all, eventually
from rented_kit import Rented, check_money, check_nothing_rented, provider_installed

MB = 1_000_000
MAKES = {
    "run": "mkdir -p results; head -c 20000000 /dev/zero > results/big; echo done",
    "results": ["results/"],
    "limits": {"runtime": "1m", "attempts": 1},
}
KEEPS = {
    "run": "mkdir -p results ck; echo $GPUJOB_RUN >> $RUNS; echo all > results/small;"
    " while [ ! -e $RUNS.go ]; do head -c 2000000 /dev/urandom > ck/new; mv ck/new ck/state; sleep 0.2; done",
    "results": ["results/"],
    "checkpoints": ["ck/"],
    "limits": {"runtime": "10m", "attempts": 1},
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Rented]:
    with provider_installed():
        place = Rented(tmp_path / "place")
        place.cloud.set_fault("far")
        yield place
        end_all(place)
        check_nothing_rented(place)


def run(place: Rented) -> None:
    done = place.call("worker", "--until-idle")
    assert done.returncode == 0, done.stderr


def test_time_that_was_not_used_pays_for_more_than_was_planned(place: Rented) -> None:
    job = place.rent(MAKES)
    place.reserve(job, 3600.0, "far", download=1 * MB)
    run(place)
    assert place.job(job)["state"] == "succeeded", place.job(job)["summary"]
    assert len(place.results(job, 1)["results/big"]) == 20 * MB
    assert 200_000 < place.attempts(job)[0]["cost_micros"] < 400_000, "$10 a GB, and seconds at $0.60 an hour"
    check_money(place, job)


def test_results_that_cannot_be_paid_for_are_refused_before_they_cost_anything(place: Rented) -> None:
    job = place.rent(MAKES)
    place.reserve(job, 60.0, "far", download=10 * MB)
    run(place)
    assert place.outcomes(job) == ["lost"]
    said = place.job(job)["summary"]
    assert "the run succeeded, but not all of its results could be paid for" in said
    assert "$10.00/GB" in said
    assert "limits.download" in said
    check_money(place, job)


def test_checkpoints_leave_half_of_the_traffic_to_the_results(place: Rented) -> None:
    place.home.config.write_text('[attempt]\nkeep_every = "0s"\n')
    job = place.rent(KEEPS)
    place.reserve(job, 600.0, "far", download=10 * MB)
    with place.worker():
        told = eventually(lambda: place.notes(job, "checkpoints"), "the word that it is enough")
        place.runs_file.with_name("runs.go").touch()
        eventually(lambda: place.job(job)["state"] == "succeeded", "the end")
    assert place.results(job, 1) == {"results/small": b"all\n"}
    assert "of the 10 MB that the plan pays for is kept for the results" in told[0]
    assert len(place.notes(job, "checkpoints")) == 1
    assert (place.home.checkpoints(job, 1) / "ck/state").stat().st_size == 2 * MB
    (machine,) = place.cloud.machines()
    assert 5 * MB <= machine["sent"] < 12 * MB
    check_money(place, job)
