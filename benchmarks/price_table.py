"""The bundled price table as offers, for benchmarks that plan with it."""

from __future__ import annotations

from backends.base import Billing, Offer
from orchestrator.catalog.gpus import GB, bundled_gpus
from orchestrator.catalog.offers import BUNDLED_OFFERS, PricedOffer, load_offers

_RAM_UNKNOWN = 48 * GB
"""Per GPU, where the table does not say: what providers of single GPUs usually give."""

_INTERRUPTIONS = 0.05
"""Of a spot machine, per hour: the order that AWS publishes (5 to 20 % a month for most types, more for GPUs)."""


def real_offers() -> list[Offer]:
    """Every whole machine whose price can be trusted and is not free, and its spot price as an offer of its own."""
    rows = load_offers(BUNDLED_OFFERS, bundled_gpus())
    offers: list[Offer] = []
    for number, row in enumerate(rows):
        if row.gpu_count < 1 or row.partial or row.unverified or row.old or not row.micros_per_hour:
            continue
        name = f"{number}-{row.instance}"
        offers.append(_offer(row, name, row.micros_per_hour, Billing()))
        spot = row.spot_micros_per_hour
        if spot and spot != row.micros_per_hour:
            offers.append(_offer(row, f"{name}-spot", spot, Billing(interruptions_per_hour=_INTERRUPTIONS)))
    return offers


def _offer(row: PricedOffer, name: str, micros_per_hour: int, billing: Billing) -> Offer:
    count = int(row.gpu_count)
    facts = bundled_gpus().find(row.gpu, row.vram_bytes)
    assert facts is not None
    return Offer(
        backend=row.provider,
        name=name,
        ram_bytes=row.ram_bytes or _RAM_UNKNOWN * count,
        disk_bytes=500 * GB,
        cpus=row.cpus or 4,
        micros_per_hour=micros_per_hour,
        gpu=row.gpu,
        gpu_count=count,
        vram_bytes=facts.usable_bytes,
        compute_capability=facts.compute_capability,
        source=row.source,
        as_of=row.dated,
        billing=billing,
    )
