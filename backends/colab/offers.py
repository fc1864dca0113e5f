"""What Colab offers, from a dated table and from what running sessions report of themselves. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path

from backends.base import Billing, Offer
from backends.billing import compute_units
from backends.colab.sessions import SessionFacts
from backends.colab.settings import NAME, Settings

MIB, MB, GB = 1 << 20, 10**6, 10**9
HOUR = 3600

UNIT_MICROS = 99_900
"""A compute unit: $9.99 for 100, bought alone or by Colab Pro (2026)."""
PRO_MICROS = 9_990_000
PRO_UNITS = 100
"""Colab Pro, a month."""
FREE_SESSION_HOURS, PAID_SESSION_HOURS = 12, 24
"""No session lives longer."""

WITH_QUOTA = ("free T4",)
"""What the week's free hours are counted for; without a GPU there is no such quota."""

PREFIXES = {"free": "free", "pro": "Pro", "payg": "pay as you go"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A runtime: with this GPU, or without. Sizes in bytes; ``units`` are compute units per hour, None where nobody has
    noted them: such a one is never offered. ``asked`` is what Google's command line calls it, ``reported`` the driver.
    """

    gpu: str | None
    asked: str
    reported: str
    vram_bytes: int
    compute_capability: float | None
    free: bool
    ram_bytes: int
    paid_ram_bytes: int
    cpus: int
    disk_bytes: int
    units: float | None
    source: str
    as_of: str

    def micros_per_hour(self, plan: str) -> int:
        """What an hour takes of a balance, in micro-dollars; nothing on the free tier."""
        return 0 if plan == "free" else self.paid_in_units(0.0)[0]

    def paid_in_units(self, left: float) -> tuple[int, Billing]:
        """Micro-dollars per hour, and the billing where ``left`` units are paid for already."""
        assert self.units is not None
        return compute_units(Decimal(str(self.units)), UNIT_MICROS, Decimal(str(left)))


@dataclass(frozen=True, slots=True)
class Used:
    """What our own jobs have used: seconds of free runtimes in the last 7 days, units in this calendar month."""

    free_seconds: float = 0.0
    units: float = 0.0


@cache
def kinds() -> tuple[Kind, ...]:
    """The runtimes on record, without a GPU first."""
    with Path(__file__).with_name("kinds.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_kind(row) for row in csv.DictReader(file))


def kind_of(reported: str | None) -> Kind | None:
    """The runtime whose GPU ``nvidia-smi`` calls so; None for one that is not on record."""
    return next((kind for kind in kinds() if kind.reported == (reported or "")), None)


def name_of(kind: Kind, plan: str) -> str:
    """Such as ``free T4``."""
    return f"{PREFIXES[plan]} {kind.gpu or 'CPU'}"


def offers(settings: Settings, used: Used, sessions: Iterable[SessionFacts], lacking: str, terms: str) -> list[Offer]:
    """The free tier, Colab Pro and units, of which the user has one plan. ``lacking`` is what none can do without,
    ``terms`` what the free tier asks for. A runtime that is up tells its own size, and starts at once.
    """
    up = [session for session in sessions if not session.busy]
    found: list[Offer] = []
    for plan in PREFIXES:
        for kind in kinds():
            if kind.units is None or (plan == "free" and not kind.free):
                continue
            missing = lacking or (terms if plan == "free" else "") or _not_bought(plan, settings)
            found.append(_as_it_is(_offer(kind, plan, settings, used, missing), kind, plan, settings, up))
    return found


def _offer(kind: Kind, plan: str, settings: Settings, used: Used, missing: str) -> Offer:
    hours = FREE_SESSION_HOURS if plan == "free" else PAID_SESSION_HOURS
    return Offer(
        backend=NAME,
        name=name_of(kind, plan),
        ram_bytes=kind.ram_bytes if plan == "free" else kind.paid_ram_bytes,
        disk_bytes=kind.disk_bytes,
        cpus=kind.cpus,
        micros_per_hour=kind.micros_per_hour(plan),
        gpu=kind.gpu,
        gpu_count=1 if kind.gpu else 0,
        vram_bytes=kind.vram_bytes,
        compute_capability=kind.compute_capability,
        source=kind.source,
        as_of=kind.as_of,
        billing=_billing(kind, plan, settings, used),
        missing=missing,
        caveat=f"you open the notebook and press Run all; a session lives {hours} h at most and may end at any moment",
    )


def _billing(kind: Kind, plan: str, settings: Settings, used: Used) -> Billing:
    if plan == "free":
        left = settings.weekly_hours * HOUR - used.free_seconds if kind.gpu else FREE_SESSION_HOURS * HOUR
        seconds = int(min(max(0.0, left), FREE_SESSION_HOURS * HOUR))
        return Billing(free_seconds=seconds, quota_ends=True, wait_seconds=settings.wait)
    if plan == "pro":
        left = max(0.0, PRO_UNITS - used.units) if settings.plan == "pro" else PRO_UNITS
        return replace(
            kind.paid_in_units(left)[1], subscription_micros=PRO_MICROS, subscribed=settings.plan == "pro",
            uses=settings.uses, wait_seconds=settings.wait,
        )  # fmt: skip
    return Billing(wait_seconds=settings.wait)


def _not_bought(plan: str, settings: Settings) -> str:
    if plan in ("free", settings.plan):
        return ""
    what = "a subscription to Colab Pro" if plan == "pro" else "a balance of compute units"
    where = "https://colab.research.google.com/signup"
    return f"Colab needs {what}, which gpujob never buys: {where}, then `gpujob config set colab.plan {plan}`"


def _as_it_is(offer: Offer, kind: Kind, plan: str, settings: Settings, up: list[SessionFacts]) -> Offer:
    """The offer with what a session of that kind has, where one is up and would be charged like this."""
    mine = [session for session in up if session.gpu == kind.reported and plan == settings.plan]
    if not mine or offer.missing:
        return offer
    best = max(mine, key=lambda session: (session.ram_bytes, session.id))
    return replace(
        offer, ram_bytes=best.ram_bytes, disk_bytes=best.disk_bytes, cpus=best.cpus,
        vram_bytes=best.vram_bytes or offer.vram_bytes, billing=replace(offer.billing, wait_seconds=0.0),
        source=f"session {best.id} says so of itself", caveat="the session is up; it may end at any moment",
    )  # fmt: skip


def _kind(row: dict[str, str]) -> Kind:
    return Kind(
        gpu=row["gpu"] or None,
        asked=row["asked"],
        reported=row["reported"],
        vram_bytes=int(row["usable_vram_mib"]) * MIB,
        compute_capability=float(row["compute_capability"]) if row["compute_capability"] else None,
        free=row["free"] == "yes",
        ram_bytes=int(row["ram_mb"] or 0) * MB,
        paid_ram_bytes=int(row["paid_ram_mb"]) * MB,
        cpus=int(row["vcpus"]),
        disk_bytes=int(row["disk_gb"]) * GB,
        units=float(row["units_per_hour"]) if row["units_per_hour"] else None,
        source=row["source"],
        as_of=row["as_of"],
    )
