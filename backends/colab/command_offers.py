"""What Google's command line can start, from the dated table and the account's balance. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from backends.base import Offer
from backends.colab.command_words import Usage
from backends.colab.offers import PAID_SESSION_HOURS, PRO_UNITS, Kind, Used, kinds, name_of
from backends.colab.settings import NAME, Plan, Settings
from backends.units import format_duration

START_SECONDS = 60.0
"""From asking to a runtime that answers, as plans count it; assumed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What asking for ``asked`` may give: Google chooses among its kinds, so the smallest memory and the dearest hour
    count. ``first`` gives the offer its name.
    """

    asked: str
    first: Kind
    units: float
    vram_bytes: int
    ram_bytes: int

    @property
    def most(self) -> Kind:
        """The kind with the dearest hour."""
        return next(kind for kind in kinds() if kind.asked == self.asked and kind.units == self.units)


def shapes() -> list[Shape]:
    """Everything that may be asked for; the command would make an A100 of any other name."""
    known = sorted((kind for kind in kinds() if kind.units is not None), key=lambda kind: kind.asked)
    return [_shape(asked, list(some)) for asked, some in groupby(known, key=lambda kind: kind.asked)]


def shape_of(offer: str, plan: Plan) -> Shape | None:
    """What stands behind an offer's name; None for one that nobody may ask for."""
    return next((shape for shape in shapes() if name_of(shape.first, plan) == offer), None)


def _shape(asked: str, some: list[Kind]) -> Shape:
    return Shape(
        asked=asked,
        first=some[0],
        units=max(kind.units or 0.0 for kind in some),
        vram_bytes=min(kind.vram_bytes for kind in some),
        ram_bytes=min(kind.ram_bytes or kind.paid_ram_bytes for kind in some),
    )


def offers(settings: Settings, used: Used, usage: Usage | None, version: str, lacking: str) -> Iterable[Offer]:
    """One for each kind, of the plan that the user has."""
    for shape in shapes():
        kind = shape.first
        rate, billing = shape.most.paid_in_units(_left(settings, used, usage))
        if settings.plan != "pro":
            billing = replace(billing, free_seconds=0)
        yield Offer(
            backend=NAME,
            name=name_of(kind, settings.plan),
            ram_bytes=shape.ram_bytes,
            disk_bytes=kind.disk_bytes,
            cpus=kind.cpus,
            micros_per_hour=rate,
            gpu=kind.gpu,
            gpu_count=1 if kind.gpu else 0,
            vram_bytes=shape.vram_bytes,
            compute_capability=kind.compute_capability,
            source=kind.source,
            as_of=kind.as_of,
            billing=replace(billing, subscribed=settings.plan == "pro", wait_seconds=START_SECONDS),
            missing=lacking,
            caveat=_caveat(shape, usage, version),
        )


def _left(settings: Settings, used: Used, usage: Usage | None) -> float:
    """Units that are paid for with the subscription: as Google tells it, else by this computer's count."""
    if settings.plan != "pro":
        return 0.0
    return max(0.0, PRO_UNITS - used.units if usage is None else usage.balance)


def _caveat(shape: Shape, usage: Usage | None, version: str) -> str:
    told = f"started by Google's command `colab` {version}, without you; a runtime lives {PAID_SESSION_HOURS} h at most"
    told += " and may end at any moment"
    if usage is None:
        return f"{told}; this version of the command cannot tell your balance"
    hours = format_duration(max(0.0, usage.balance) / shape.units * 3600)
    return f"{told}; your balance of {usage.balance:g} units lasts {hours} at {shape.units:g} an hour"
