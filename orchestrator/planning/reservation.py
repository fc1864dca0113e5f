"""How long each attempt may hold its machine, and the money set aside for it. Exact: micro-dollars, whole milliseconds.

A rung is worth taking if the money left buys its expected run and the time around it. It reserves up to
``LEAST_ALLOWANCE`` times its expected run, so that rungs below it can be paid too; what no rung needs is then
handed out from the top, up to ``FULL_ALLOWANCE`` times.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backends.units import cost_micros, decimal_usd, format_duration, format_usd
from orchestrator.planning.estimate import OVERHEAD_SECONDS
from orchestrator.planning.feasibility import No
from orchestrator.planning.plan import Code

LEAST_ALLOWANCE = 2.0
FULL_ALLOWANCE = 4.0
"""An attempt may take this many times its expected time: if money is short, and if it is not."""

_CENT = 10_000


@dataclass(frozen=True, slots=True)
class Reservation:
    """Time on a machine and its price, rounded up. ``full_seconds`` is the most that it may grow to."""

    micros_per_hour: int
    seconds: float
    full_seconds: float

    @property
    def micros(self) -> int:
        """What the time costs."""
        return cost_micros(self.micros_per_hour, self.seconds)

    @classmethod
    def least(cls, micros_per_hour: int, expected: float, runtime: float, left: int) -> Reservation:
        """What a rung must have, for at most ``left`` micro-dollars, which are enough for the expected run.

        Where time costs nothing the run may take all of ``runtime`` at once.
        """
        if micros_per_hour == 0:
            return cls(0, runtime + OVERHEAD_SECONDS, runtime + OVERHEAD_SECONDS)
        full = min(runtime, FULL_ALLOWANCE * expected) + OVERHEAD_SECONDS
        start = cls(micros_per_hour, expected + OVERHEAD_SECONDS, full)
        return start.grown(min(runtime, LEAST_ALLOWANCE * expected) + OVERHEAD_SECONDS, left - start.micros)

    def grown(self, seconds: float, spare: int) -> Reservation:
        """The same up to ``seconds``, as far as ``spare`` micro-dollars more can pay for it."""
        if self.micros_per_hour == 0:
            return self
        # Whole milliseconds, rounded down: their price, rounded up, is then never more than the money there is.
        payable = (self.micros + spare) * 3_600_000 // self.micros_per_hour / 1000
        return Reservation(self.micros_per_hour, max(self.seconds, min(seconds, payable)), self.full_seconds)


def spread(reservations: Iterable[Reservation], spare: int) -> list[Reservation]:
    """The same reservations, grown from the first on with ``spare`` micro-dollars that none of them needs."""
    grown = []
    for reserved in reservations:
        bigger = reserved.grown(reserved.full_seconds, spare)
        spare -= bigger.micros - reserved.micros
        grown.append(bigger)
    return grown


def unaffordable(micros_per_hour: int, expected: float, left: int, *, above: int) -> No | None:
    """The reason against a rung whose expected run costs more than is left by the ``above`` rungs before it."""
    needed = cost_micros(micros_per_hour, expected + OVERHEAD_SECONDS)
    if needed <= left:
        return None
    lacking = -(-(needed - left) // _CENT) * _CENT
    exact = format_usd(needed) == format_usd(left)
    price, rest = (f"${decimal_usd(m)}" if exact else format_usd(m) for m in (needed, left))
    return No(
        Code.BUDGET,
        f"needs {price}: {format_duration(expected)} and {format_duration(OVERHEAD_SECONDS)} around it at "
        f"{format_usd(micros_per_hour)}/h; {rest} is left" + (" by the rungs above" if above else ""),
        f"raise --budget by {format_usd(lacking)}",
        (needed - left) / needed,
    )
