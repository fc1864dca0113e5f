"""The price table: what providers ask for machines with GPUs, each row checked when it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from backends.units import decimal_usd, parse_usd
from orchestrator.catalog.gpus import GB, GpuFacts, GpuTable
from orchestrator.catalog.rows import Row, parse_rows, read_rows

BUNDLED_OFFERS = Path(__file__).with_name("offers.csv")

STALE_DAYS = 180
"""A price older than this is shown as stale."""

_COLUMNS = (
    "provider", "instance_type", "gpu_name", "gpu_count", "vram_gb_per_gpu", "ram_gb", "vcpu", "region",
    "on_demand_usd_h", "spot_usd_h", "source", "date", "note",
)  # fmt: skip

_VRAM_TOLERANCE = 0.1
"""Providers write GB or GiB, of the card or of what ECC leaves: up to a tenth around the model's size is the model."""

_PARTIAL = ("accelerator part", "billed extra")
_UNVERIFIED = ("memory-based", "unverified", "may be spot")
_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?(?=\D|$)")


@dataclass(frozen=True, slots=True)
class PricedOffer:
    """One row: a machine at a price, in micro-dollars per hour for all of it.

    ``gpu`` is the model's name in the GPU table and ``vram_bytes`` what its driver reports, per GPU; a ``gpu_count``
    below 1 is a slice of one GPU, and ``vram_bytes`` that of the slice. ``partial``: more is billed than this price;
    ``unverified``: nobody has read it at the provider. ``as_of`` is the earliest day that ``dated`` can mean.
    """

    provider: str
    instance: str
    gpu: str
    gpu_count: float
    vram_bytes: int
    ram_bytes: int | None
    cpus: int | None
    region: str
    micros_per_hour: int
    spot_micros_per_hour: int | None
    source: str
    dated: str
    as_of: date
    note: str
    partial: bool
    unverified: bool
    old: bool

    def stale(self, today: date) -> bool:
        """Whether the price may no longer hold."""
        return self.old or (today - self.as_of).days > STALE_DAYS

    def marks(self, today: date) -> tuple[str, ...]:
        """What a reader should know before trusting the price."""
        said = {"stale": self.stale(today), "partial": self.partial, "unverified": self.unverified}
        return tuple(mark for mark, applies in said.items() if applies)

    def to_json(self, today: date) -> dict[str, Any]:
        """The stable form for ``--json``."""
        spot = self.spot_micros_per_hour
        return {
            "provider": self.provider,
            "instance": self.instance,
            "gpu": self.gpu,
            "gpu_count": self.gpu_count,
            "vram_bytes": self.vram_bytes,
            "ram_bytes": self.ram_bytes,
            "cpus": self.cpus,
            "region": self.region,
            "usd_per_hour": decimal_usd(self.micros_per_hour),
            "spot_usd_per_hour": None if spot is None else decimal_usd(spot),
            "source": self.source,
            "date": self.dated,
            "note": self.note,
            "marks": list(self.marks(today)),
        }


def load_offers(path: Path, gpus: GpuTable) -> list[PricedOffer]:
    """The table in a CSV file, every row checked against ``gpus``. Raises CatalogError."""
    return read_rows(path, _COLUMNS, lambda row: _offer(row, gpus))


def parse_offers(name: str, content: bytes, gpus: GpuTable) -> list[PricedOffer]:
    """The same for a table that was read already; ``name`` is what errors call it."""
    return parse_rows(name, content, _COLUMNS, lambda row: _offer(row, gpus))


def _offer(row: Row, gpus: GpuTable) -> PricedOffer:
    note, source, dated = row.text("note"), row.needed("source"), row.needed("date")
    on_demand, spot = _prices(row, free=note.startswith("free"))
    count = row.needed_number("gpu_count")
    gpu = _known_gpu(row, count, gpus)
    ram, remarks = row.number("ram_gb"), f"{source} {note}".lower()
    return PricedOffer(
        provider=row.needed("provider"),
        instance=row.needed("instance_type"),
        gpu=gpu.name,
        gpu_count=count,
        vram_bytes=round(gpu.vram_bytes * min(count, 1.0)),
        ram_bytes=None if ram is None else round(ram * GB),
        cpus=row.whole("vcpu"),
        region=row.text("region"),
        micros_per_hour=on_demand,
        spot_micros_per_hour=spot,
        source=source,
        dated=dated,
        as_of=_earliest(dated),
        note=note,
        partial=any(word in remarks for word in _PARTIAL),
        unverified=any(word in remarks for word in _UNVERIFIED),
        old=note == "old",
    )


def _known_gpu(row: Row, count: float, gpus: GpuTable) -> GpuFacts:
    name, size = row.needed("gpu_name"), row.needed_number("vram_gb_per_gpu")
    whole = size / min(count, 1.0) * GB
    gpu = gpus.find(name, round(whole))
    if gpu is None:
        raise ValueError(f"gpu_name is {name!r}, which is not in the table of GPUs")
    if abs(whole / gpu.marketing_bytes - 1) > _VRAM_TOLERANCE:
        raise ValueError(f"vram_gb_per_gpu is {size:g}, but a {gpu.name} has {gpu.marketing_bytes // GB} GB")
    return gpu


def _prices(row: Row, *, free: bool) -> tuple[int, int | None]:
    on_demand = parse_usd(row.needed("on_demand_usd_h"))
    spot = parse_usd(text) if (text := row.text("spot_usd_h")) else None
    if on_demand == 0 and not free:
        raise ValueError("on_demand_usd_h is 0; a free offer needs a note that begins with 'free'")
    if spot == 0:
        raise ValueError("spot_usd_h is 0; leave it empty where there is no spot price")
    if spot is not None and spot > on_demand:
        raise ValueError(f"spot_usd_h is {text}, above the price on demand of {row.text('on_demand_usd_h')}")
    return on_demand, spot


def _earliest(text: str) -> date:
    """The first day of what is written: ``2026-05`` is 2026-05-01, ``2025-2026 (undated)`` is 2025-01-01."""
    match = _DATE.match(text)
    if match is None:
        raise ValueError(f"date is {text!r}; write it as 2026-11-01, 2026-11 or 2026")
    try:
        return date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError as error:
        raise ValueError(f"date is {text!r}: {error}") from None
