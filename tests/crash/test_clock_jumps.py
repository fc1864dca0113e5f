"""The wall clock jumps in mid-run; nothing that is measured, paid or decided follows it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from crash_kit import PATIENCE, Place, check_whole, eventually

WAITS = {
    "run": "echo $GPUJOB_RUN >> $RUNS; until test -e $RUNS.go; do sleep 0.02; done",
    "limits": {"runtime": "1m", "idle": "1m"},
}


@pytest.fixture
def clock(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file that says how far off the clock is, and the environment of programs that believe it."""
    found = importlib.util.find_spec("libfaketime")
    library = next(Path(found.origin).parent.rglob("libfaketime.so.1"), None) if found and found.origin else None
    if library is None:
        pytest.skip("NOT TESTED: moving the clock needs libfaketime (pip install libfaketime)")
    file = tmp_path / "clock"
    file.write_text("+0\n")
    return file, {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


@pytest.mark.parametrize("jump", ["+1h", "-1h", "+1d", "-1d"])
def test_the_clock_jumps_while_the_command_works(place: Place, clock: tuple[Path, dict[str, str]], jump: str) -> None:
    file, faked = clock
    place.price("1.00")
    job = place.submit(WAITS)
    with place.worker("--until-idle", **faked) as worker:
        eventually(place.runs, "the command at work")
        file.write_text(f"{jump}\n")
        (place.folder / "runs.go").touch()
        _, said = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0, said
    assert place.outcomes(job) == ["succeeded"]
    attempt = place.attempts(job)[0]
    moved = attempt["ended_at"] > "2" and abs(hours_between(attempt["started_at"], attempt["ended_at"])) > 0.5
    assert moved, "the worker believed the jump"
    assert 0 < attempt["cost_micros"] < 1_000_000 * PATIENCE / 3600
    assert all(0 <= row["seconds"] < PATIENCE for row in place.tries(job))
    check_whole(place, job)
    for look in (("show", job), ("ls",), ("report",)):
        looked = place.call(*look)
        assert looked.returncode == 0, looked.stderr
        assert not re.search(r" -[$\d]", looked.stdout), looked.stdout  # no time and no cost below zero


def hours_between(start: str, end: str) -> float:
    from orchestrator.clock import moment

    return (moment(end) - moment(start)).total_seconds() / 3600
