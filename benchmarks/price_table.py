"""The table of real prices as offers, for benchmarks that plan with it."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

from backends.base import Billing, Offer

GB = 10**9

_NOT_WHOLE = ("accelerator part", "billed extra", "MEMORY-BASED", "unverified", "old", "free tier")
"""Rows whose price is not, or no longer, what such a machine costs."""

_RAM_UNKNOWN = 48 * GB
"""Per GPU, where the table does not say: what providers of single GPUs usually give."""

_INTERRUPTIONS = 0.05
"""Of a spot machine, per hour: the order that AWS publishes (5 to 20 % a month for most types, more for GPUs)."""


def real_offers(path: Path) -> list[Offer]:
    """Every whole machine of the table with one price per row, and its spot price as an offer of its own."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not any(word in row["note"] for word in _NOT_WHOLE)]
    offers: list[Offer] = []
    for number, row in enumerate(rows):
        if float(row["gpu_count"]) < 1:
            continue
        offers.append(_offer(row, f"{number}-{row['instance_type']}", row["on_demand_usd_h"], Billing()))
        if row["spot_usd_h"] and row["spot_usd_h"] != row["on_demand_usd_h"]:
            spot = Billing(interruptions_per_hour=_INTERRUPTIONS)
            offers.append(_offer(row, f"{number}-{row['instance_type']}-spot", row["spot_usd_h"], spot))
    return offers


def _offer(row: dict[str, str], name: str, price: str, billing: Billing) -> Offer:
    count = int(float(row["gpu_count"]))
    ram = int(float(row["ram_gb"]) * GB) if row["ram_gb"] else _RAM_UNKNOWN * count
    return Offer(
        backend=row["provider"],
        name=name,
        ram_bytes=ram,
        disk_bytes=500 * GB,
        cpus=int(float(row["vcpu"] or 4)),
        micros_per_hour=int(Decimal(price) * 1_000_000),
        gpu=row["gpu_name"],
        gpu_count=count,
        vram_bytes=int(float(row["vram_gb_per_gpu"]) * 0.95 * GB),
        compute_capability=None,
        source=row["source"],
        as_of=row["date"],
        billing=billing,
    )
