"""What holding a machine costs, to the micro-dollar, however its provider counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from backends.base import BY_THE_SECOND, Billing, Offer

GB = 10**9
HOURS_PER_MONTH = 730
"""As providers count a month of disk."""

_HOUR_OF_MILLISECONDS = 3_600_000


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one attempt as a function of the seconds that its machine is held.

    ``micros_per_hour`` includes the disk; ``fixed_micros`` is due however short it is: egress, a subscription.
    """

    micros_per_hour: int
    fixed_micros: int = 0
    billing: Billing = BY_THE_SECOND

    def micros(self, seconds: float) -> int:
        """What ``seconds`` on the machine cost, rounded up: a bill is never understated."""
        return self.fixed_micros + self._time_micros(self.billed_milliseconds(seconds))

    def billed_milliseconds(self, seconds: float) -> int:
        """The time that is charged: at least the minimum, in whole increments, without what is free."""
        held = max(_milliseconds(seconds), self.billing.minimum_seconds * 1000)
        # Billing by the second is exact to the millisecond here, as the machine's own clock measures it.
        step = self.billing.increment_seconds * 1000 if self.billing.increment_seconds > 1 else 1
        return max(0, -(-held // step) * step - self.billing.free_seconds * 1000)

    def seconds_for(self, micros: int) -> float:
        """The longest time that ``micros`` pay for, in whole milliseconds; 0 if not even the shortest, inf if free."""
        if micros < self.micros(0.0):
            return 0.0
        if self.micros_per_hour == 0:
            return float("inf")
        paid = (micros - self.fixed_micros) * _HOUR_OF_MILLISECONDS // self.micros_per_hour
        whole = paid + self.billing.free_seconds * 1000
        step = self.billing.increment_seconds * 1000 if self.billing.increment_seconds > 1 else 1
        return max(whole // step * step, self.billing.minimum_seconds * 1000) / 1000

    @property
    def longest_seconds(self) -> float:
        """How long the machine can be had at all: the rest of a quota that cannot be added to, else unbounded."""
        return float(self.billing.free_seconds) if self.billing.quota_ends else float("inf")

    @property
    def free(self) -> bool:
        """Whether no time on it costs anything."""
        return self.micros_per_hour == 0 and self.fixed_micros == 0

    def _time_micros(self, milliseconds: int) -> int:
        return -(-self.micros_per_hour * milliseconds // _HOUR_OF_MILLISECONDS)


def price_of(offer: Offer, disk_bytes: int = 0, egress_bytes: int = 0) -> Price:
    """The price of an attempt on ``offer`` that keeps ``disk_bytes`` there and brings ``egress_bytes`` home.

    A subscription that is not yet paid for is wholly due: it is money, whoever shares it later.
    """
    billing = offer.billing
    if billing is BY_THE_SECOND:
        return Price(offer.micros_per_hour)
    disk = -(-disk_bytes * billing.disk_micros_per_gb_month // (GB * HOURS_PER_MONTH))
    egress = -(-egress_bytes * billing.egress_micros_per_gb // GB)
    due = 0 if billing.subscribed else billing.subscription_micros
    return Price(offer.micros_per_hour + disk, egress + due, billing)


def shared_by_others(billing: Billing) -> int:
    """Micro-dollars of the subscription that other jobs will use: paid now, but not this job's expense."""
    if billing.subscribed or billing.uses <= 1:
        return 0
    return billing.subscription_micros - -(-billing.subscription_micros // billing.uses)


def electricity(watts: int, micros_per_kwh: int) -> int:
    """Micro-dollars per hour of a machine at home that draws ``watts``, rounded up."""
    return -(-watts * micros_per_kwh // 1000)


def compute_units(units_per_hour: Decimal, micros_per_unit: int, units_left: Decimal) -> tuple[int, Billing]:
    """Micro-dollars per hour, and the billing, of a machine paid in units of which some are left from before."""
    rate = int((units_per_hour * micros_per_unit).to_integral_value(ROUND_CEILING))
    return rate, Billing(free_seconds=int(units_left / units_per_hour * 3600))


def _milliseconds(seconds: float) -> int:
    """Rounded up from the microsecond: finer than that, a float's last digits are noise."""
    return math.ceil(round(seconds * 1000, 3))
