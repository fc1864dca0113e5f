"""What holding a machine costs, to the micro-dollar, however its provider counts: the one function for it.

A plan reserves with it, a settlement charges with it, so that what was set aside is never less than what is booked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from backends.base import BY_THE_SECOND, Billing, Offer

GB = 10**9
HOURS_PER_MONTH = 730
"""As providers count a month of disk."""

_HOUR_OF_MILLISECONDS = 3_600_000
_WHOLE = GB * HOURS_PER_MONTH
"""Rates are added up in parts of a micro-dollar per hour so small that a byte of disk is a whole number of them."""


def charge(
    micros_per_hour: int, billing: Billing, seconds: float, *,
    disk_bytes: int = 0, egress_bytes: int = 0, stopped_seconds: float = 0.0,
) -> int:  # fmt: skip
    """Micro-dollars for holding a machine for ``seconds``, rounded up once, at the end: a bill is never understated.

    ``disk_bytes`` are kept there all the while, and for ``stopped_seconds`` more after the machine was stopped but not
    given back; ``egress_bytes`` are brought home. A subscription that is not yet paid for is wholly due: it is money,
    whoever shares it later.
    """
    disk = max(disk_bytes, billing.least_disk_bytes)
    parts = billed_milliseconds(billing, seconds) * _parts_per_hour(micros_per_hour, billing, disk)
    parts += _milliseconds(stopped_seconds) * disk * billing.stopped_disk_micros_per_gb_month
    return -(-parts // (_WHOLE * _HOUR_OF_MILLISECONDS)) + fixed_micros(billing, egress_bytes)


def billed_milliseconds(billing: Billing, seconds: float) -> int:
    """The time that is charged for ``seconds``: at least the minimum, in whole increments, without what is free."""
    held = max(_milliseconds(seconds), billing.minimum_seconds * 1000)
    step = _step(billing)
    return max(0, -(-held // step) * step - billing.free_seconds * 1000)


def fixed_micros(billing: Billing, egress_bytes: int = 0) -> int:
    """What is due however short the time is: traffic both ways, and a subscription that is not paid for yet."""
    due = billing.upload_micros + (0 if billing.subscribed else billing.subscription_micros)
    return due - (-egress_bytes * billing.egress_micros_per_gb // GB)


@dataclass(frozen=True, slots=True)
class Price:
    """All that :func:`charge` must know of one attempt but the time: kept with the attempt, used again to settle it."""

    micros_per_hour: int
    billing: Billing = BY_THE_SECOND
    disk_bytes: int = 0
    egress_bytes: int = 0

    def micros(self, seconds: float, stopped_seconds: float = 0.0) -> int:
        """What ``seconds`` on the machine cost."""
        return charge(
            self.micros_per_hour, self.billing, seconds,
            disk_bytes=self.disk_bytes, egress_bytes=self.egress_bytes, stopped_seconds=stopped_seconds,
        )  # fmt: skip

    def seconds_for(self, micros: int) -> float:
        """The longest time that ``micros`` pay for, in whole milliseconds; 0 if not even the shortest, inf if free."""
        if micros < self.micros(0.0):
            return 0.0
        if self._parts == 0:
            return float("inf")
        paid = (micros - self.fixed_micros) * _WHOLE * _HOUR_OF_MILLISECONDS // self._parts
        whole, step = paid + self.billing.free_seconds * 1000, _step(self.billing)
        return max(whole // step * step, self.billing.minimum_seconds * 1000) / 1000

    @property
    def hourly_micros(self) -> int:
        """Micro-dollars for an hour with its disk, rounded up."""
        return -(-self._parts // _WHOLE)

    @property
    def fixed_micros(self) -> int:
        """Micro-dollars that are due however short the time is."""
        return fixed_micros(self.billing, self.egress_bytes)

    @property
    def longest_seconds(self) -> float:
        """How long the machine can be had at all: the rest of a quota that cannot be added to, else unbounded."""
        return float(self.billing.free_seconds) if self.billing.quota_ends else float("inf")

    @property
    def free(self) -> bool:
        """Whether no time on it costs anything."""
        return self._parts == 0 and self.fixed_micros == 0

    @property
    def _parts(self) -> int:
        disk = max(self.disk_bytes, self.billing.least_disk_bytes)
        return _parts_per_hour(self.micros_per_hour, self.billing, disk)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives the same price again."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Price:
        """The price that ``to_json`` wrote."""
        return cls(**{**data, "billing": Billing(**data["billing"])})


def price_of(offer: Offer, disk_bytes: int = 0, egress_bytes: int = 0) -> Price:
    """The price of an attempt on ``offer`` that keeps ``disk_bytes`` there and brings ``egress_bytes`` home."""
    return Price(offer.micros_per_hour, offer.billing, disk_bytes, egress_bytes)


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


def _parts_per_hour(micros_per_hour: int, billing: Billing, disk_bytes: int) -> int:
    return micros_per_hour * _WHOLE + disk_bytes * billing.disk_micros_per_gb_month


def _step(billing: Billing) -> int:
    """Milliseconds. Billing by the second is exact to the millisecond here, as the machine's own clock measures it."""
    return billing.increment_seconds * 1000 if billing.increment_seconds > 1 else 1


def _milliseconds(seconds: float) -> int:
    """Rounded up from the microsecond: finer than that, a float's last digits are noise."""
    return math.ceil(round(seconds * 1000, 3))
