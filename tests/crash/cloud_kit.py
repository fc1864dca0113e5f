"""Sweeps over jobs on emulated providers: the worker dies at a point of a job, and another finishes it.

All homes of a sweep share one account, so each home's machines lie among the others', which it must not touch.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crash_kit import Place, Zygote, check_whole, interrupted_by, sweep

from tests.emulators.account_kit import Account

SIDE_BY_SIDE = 2
"""More would only wait for each other on a small machine."""

BUDGET = 3_000_000
INPUT = bytes(range(256)) * 64

SUCCEEDS: dict[str, Any] = {
    "run": "echo $GPUJOB_RUN >> /root/runs; mkdir -p results checkpoints; cp input results/copy;"
    " cp /root/runs results/runs; echo half > checkpoints/state",
    "results": ["results/"],
    "checkpoints": ["checkpoints/"],
    "secrets": ["CRASH_SECRET"],
    "limits": {"runtime": "1m"},
    "needs": {"gpu": "L4"},
    "duration": {"on": "L4", "minutes": 0.2},
}

Crash = Callable[[Place, Zygote, int | str], list[str]]
"""Makes a job in a place of its own and kills its worker at a point; the points it reached, none if it got through."""


def crash_and_recover(place: Place, zygote: Zygote, point: int | str) -> list[str]:
    """The points that the worker reached, the last of which it died at, after another has finished its work; none where
    it was not killed.
    """
    status = zygote.worker(place, point)
    reached = place.trace()
    if status == 0:
        return []
    assert status == -signal.SIGKILL, (place.home.root / "worker.out").read_text()
    assert point in (len(reached), reached[-1])
    assert zygote.worker(place) == 0, (place.home.root / "worker.out").read_text()
    return reached


def check_over(place: Place, job: str, closed: Account, reached: list[str]) -> None:
    """What holds of any rented job that is over, however often its worker died."""
    check_whole(place, job)
    if reached:
        interrupted = [row for row in place.tries(job) if row["state"] == "interrupted"]
        assert len(interrupted) == interrupted_by(reached), reached
    assert closed.clean, (reached, closed)
    assert closed.unbooked == 0, (reached, closed)
    assert closed.machines == len(place.attempts(job)), "a machine that was rented is adopted, never rented again"


def check_success(place: Place, job: str) -> None:
    """:data:`SUCCEEDS` has: its command ran once, and all of its files are at home."""
    assert place.outcomes(job) == ["succeeded"]
    assert place.results(job, 1) == {"results/copy": INPUT, "results/runs": f"{job}-a1\n".encode()}
    assert (place.home.checkpoints(job, 1) / "checkpoints/state").read_bytes() == b"half\n"


def sweep_with_own(folder: Path, crash: Crash, own: str, *, every: int, preload: str) -> int:
    """Die at every so many-th point, and at each that the backend itself has (``own`` begins their names), whether or
    not the stride meets it; how many deaths there were. ``preload`` is a module that every worker needs.
    """
    died_at, seen = [], set()

    def crash_at(place: Place, zygote: Zygote, point: int | str) -> bool:
        reached = crash(place, zygote, point)
        died_at.extend(reached[-1:])
        seen.update(name for name in place.trace() if name.startswith(own))
        return bool(reached)

    deaths = sweep(folder, crash_at, first=min(every, 5), every=every, side_by_side=SIDE_BY_SIDE, preload=preload)
    assert {name.partition(":")[0] for name in seen} == {f"{own}create", f"{own}delete"}
    missed = sorted(seen.difference(died_at))
    zygote = Zygote(preload)
    try:
        assert all([crash_at(Place(folder / name), zygote, name) for name in missed])
    finally:
        zygote.close()
    return deaths + len(missed)
