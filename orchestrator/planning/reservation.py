"""How long each attempt may hold its machine, and the money set aside for it. Exact: micro-dollars, whole milliseconds.

A rung is worth taking if the money left buys a time that suffices with chance ``LEAST_CHANCE``; so much it reserves,
and rungs below it can be paid too. What no rung needs is then handed out from the top, up to ``FULL_CHANCE``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from backends.billing import Price
from backends.units import decimal_usd, format_duration, format_usd
from orchestrator.planning.duration import Course
from orchestrator.planning.feasibility import No
from orchestrator.planning.plan import Code

LEAST_CHANCE = 0.95
FULL_CHANCE = 0.999
"""Chance that an attempt is over in the time it may take: if money is short, and if it is not."""

OVERHEAD_SECONDS = 300.0
"""Allowed around the run itself, at least: for upload, setup, fetch and giving the machine back."""

ENDING_SECONDS = 60.0
"""Kept for ending the run, fetching and giving the machine back."""

_CENT = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """The seconds that an attempt may take: if money is short, if it is not, and in any case."""

    least: float
    full: float
    most: float

    @classmethod
    def of(cls, course: Course, runtime: float) -> Allowance:
        """For an attempt whose run itself may take ``runtime``."""
        around = max(OVERHEAD_SECONDS, course.setup.quantile(FULL_CHANCE) + course.fetch.quantile(FULL_CHANCE))
        least, full = (course.total.quantile(chance) + ENDING_SECONDS for chance in (LEAST_CHANCE, FULL_CHANCE))
        return cls(least, full, runtime + around)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Time on a machine, its price and what it costs: ``micros``. ``full_seconds`` is the most that it may grow to."""

    price: Price
    seconds: float
    full_seconds: float
    micros: int

    @classmethod
    def least(cls, price: Price, allowance: Allowance) -> Reservation:
        """What a rung must have. Where time costs nothing the run may take all there is at once."""
        most = min(allowance.most, price.longest_seconds)
        if price.hourly_micros == 0:
            return cls(price, most, most, price.micros(most))
        seconds = round(min(most, allowance.least), 3)
        return cls(price, seconds, round(min(most, allowance.full), 3), price.micros(seconds))

    def grown(self, spare: int) -> Reservation:
        """The same, longer as far as ``spare`` micro-dollars more can pay for it."""
        payable = self.price.seconds_for(self.micros + spare)
        seconds = max(self.seconds, min(self.full_seconds, payable))
        return replace(self, seconds=seconds, micros=self.price.micros(seconds))


def spread(reservations: Iterable[Reservation], spare: int) -> list[Reservation]:
    """The same reservations, grown from the first on with ``spare`` micro-dollars that none of them needs."""
    grown = []
    for reserved in reservations:
        bigger = reserved.grown(spare)
        spare -= bigger.micros - reserved.micros
        grown.append(bigger)
    return grown


def unaffordable(reserved: Reservation, left: int, *, above: int) -> No | None:
    """The reason against a rung that must reserve more than is left by the ``above`` rungs before it."""
    needed = reserved.micros
    if needed <= left:
        return None
    lacking = -(-(needed - left) // _CENT) * _CENT
    exact = format_usd(needed) == format_usd(left)
    price, rest = (f"${decimal_usd(m)}" if exact else format_usd(m) for m in (needed, left))
    return No(
        Code.BUDGET,
        f"must reserve {price}: {format_duration(reserved.seconds)} at {format_usd(reserved.price.hourly_micros)}/h"
        f"{_besides(reserved.price)}; {rest} is left" + (" by the rungs above" if above else ""),
        f"raise --budget by {format_usd(lacking)}",
        (needed - left) / needed,
    )


def _besides(price: Price) -> str:
    return f" and {format_usd(price.fixed_micros)} besides" if price.fixed_micros else ""
