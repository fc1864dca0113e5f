"""Sweeps over jobs on emulated providers: the worker dies at a point of a job, and another finishes it.

All homes of a sweep share one account, so each home's machines lie among the others', which it must not touch.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from crash_kit import Place, Told, Zygote, check_whole, interrupted_by, sweep

from orchestrator.config import Config
from tests.emulators.account_kit import Account, tell

SIDE_BY_SIDE = 2
"""More would only wait for each other on a small machine."""

SHORT_LAG = "2s"
"""Whoever died before the answer to renting has to be waited for so long."""

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

Point = int | str
"""The N-th failpoint that a worker reaches, or the first of that name."""

Crash = Callable[[Place, Zygote, Point], list[str]]
"""Makes a job in that place, whose worker dies at that point; the points it reached, none if it was not killed."""


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """How every worker finds the account, and the job its secret."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in {**values, "CRASH_SECRET": "a value that is gone at the end"}.items():
            patch.setenv(name, text)
        yield


@dataclass
class Provider:
    """An account that all homes of a test rent from. ``settings`` are those of the backend ``name``; ``account`` tells
    what must hold of one home; ``preload`` is the module that takes workers longest to import.
    """

    name: str
    settings: Mapping[str, Any]
    account: Callable[[Path], Account]
    preload: str
    accounts: list[Account] = field(default_factory=list)
    """Of every home of a sweep."""

    def submit(self, place: Place) -> str:
        """Record :data:`SUCCEEDS`, which only this provider may run."""
        config = Config(place.home.config)
        for name, value in {**self.settings, "list_lag": SHORT_LAG}.items():
            config.set(f"{self.name}.{name}", str(value))
        return place.submit(SUCCEEDS, {"input": INPUT}, BUDGET, (self.name,))

    def close(self, place: Place) -> Account:
        """What holds of any home whose jobs are over: nothing is left, and all is paid for."""
        closed = self.account(place.home.root)
        self.accounts.append(closed)
        check_closed(closed)
        assert self.notes(place, "ended") == []
        return closed

    def notes(self, place: Place, what: str) -> list[str]:
        """What the backend remembers there."""
        return [path.name for path in (place.home.root / self.name / what).glob("*")]

    def succeed(self, place: Place, zygote: Zygote, point: Point) -> list[str]:
        """A job whose worker dies at a point, and another finishes it; the points reached until then, if it died."""
        job = self.submit(place)
        reached = crash_and_recover(place, zygote, point)
        check_success(place, job)
        check_over(place, job, self.close(place), reached)
        assert self.notes(place, "asked") == []
        return reached

    def cancel(self, place: Place, zygote: Zygote, point: Point) -> list[str]:
        """A job that is cancelled when its worker has died at a point; the points reached until then, if it died."""
        job = self.submit(place)
        reached = die_at(place, zygote, point)
        place.cancel(job)
        for _ in range(2):  # what nobody owned when the first one came, the next one gives back
            assert zygote.worker(place) == 0, (place.home.root / "worker.out").read_text()
        assert place.job(job)["state"] == ("succeeded" if reached[-1:] in ([], ["finished"]) else "cancelled")
        assert place.outcomes(job) in ([], ["cancelled"], ["succeeded"])
        check_whole(place, job)
        assert self.close(place).machines <= 1
        return reached

    def sweep(self, folder: Path, crash: Crash, every: int, told: Told) -> None:
        """Die at every so many-th point, and at each of the backend's own, whether or not the stride meets it."""
        died_at: list[str] = []
        own: set[str] = set()

        def crash_at(place: Place, zygote: Zygote, point: Point) -> bool:
            reached = crash(place, zygote, point)
            died_at.extend(reached[-1:])
            own.update(name for name in place.trace() if name.startswith(f"{self.name}."))
            return bool(reached)

        side_by_side = SIDE_BY_SIDE if every == 1 else 1  # each lane ends with a run in which nobody dies
        sweep(folder, crash_at, first=min(every, 5), every=every, side_by_side=side_by_side, preload=self.preload)
        assert {name.partition(":")[0] for name in own} == {f"{self.name}.create", f"{self.name}.delete"}
        self.die_at_each(folder, crash_at, own.difference(died_at))
        self.tell(told, len(died_at))

    def die_at_each(self, folder: Path, crash: Callable[[Place, Zygote, Point], object], names: Iterable[str]) -> None:
        """Die at each point so called, the first of its name."""
        zygote = Zygote(self.preload)
        try:
            for name in sorted(names):
                assert crash(Place(folder / name), zygote, name), f"{name} was not reached"
        finally:
            zygote.close()

    def tell(self, told: Told, deaths: int) -> None:
        """Record what tools/reliability.py makes its table of; the next sweep begins anew."""
        told("crash_points", deaths)
        tell(told, self.accounts)
        self.accounts.clear()


def die_at(place: Place, zygote: Zygote, point: Point) -> list[str]:
    """The points that a worker reached, the last of which it died at; none where it was not killed."""
    status = zygote.worker(place, point)
    if status == 0:
        return []
    assert status == -signal.SIGKILL, (place.home.root / "worker.out").read_text()
    reached = place.trace()
    assert point in (len(reached), reached[-1])
    return reached


def crash_and_recover(place: Place, zygote: Zygote, point: Point) -> list[str]:
    """The same; then another worker has finished its work."""
    if reached := die_at(place, zygote, point):
        assert zygote.worker(place) == 0, (place.home.root / "worker.out").read_text()
    return reached


def check_over(place: Place, job: str, closed: Account, reached: list[str]) -> None:
    """What holds of any rented job that is over, whose worker died after it had ``reached`` these points, if any."""
    check_whole(place, job)
    if reached:
        interrupted = [row for row in place.tries(job) if row["state"] == "interrupted"]
        assert len(interrupted) == interrupted_by(reached), reached
    check_closed(closed)
    assert closed.machines == len(place.attempts(job)), "a machine that was rented is adopted, never rented again"


def check_closed(closed: Account) -> None:
    """Nothing is left, nothing is lost, and we booked neither more than we might nor less than it cost."""
    assert closed.clean, closed
    assert closed.unbooked == 0, closed


def check_success(place: Place, job: str) -> None:
    """:data:`SUCCEEDS` has: its command ran once, and all of its files are at home."""
    assert place.outcomes(job) == ["succeeded"]
    assert place.results(job, 1) == {"results/copy": INPUT, "results/runs": f"{job}-a1\n".encode()}
    assert (place.home.checkpoints(job, 1) / "checkpoints/state").read_bytes() == b"half\n"
