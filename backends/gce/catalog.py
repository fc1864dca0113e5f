"""Offers out of the dated price table. Pure.

Google tells its prices by SKU, host and GPU apart, and no instance can be asked for with a highest price: what an offer
costs is what the table says, with source and date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from backends.base import Billing, Offer
from backends.gce.replies import over_quota_words
from backends.gce.settings import Settings
from backends.gce.tables import GB, MachineType, Region, machine_types, regions

NAME = "gce"

LEAST_SECONDS = 60
"""Instances are charged by the second, and for a minute at least."""

LARGEST_DISK = 65_536 * GB
"""What a balanced disk can be."""

INTERRUPTIONS_PER_HOUR = 0.1
"""How often a spot instance is taken back: Google does not say; own experience corrects this (docs/learning.md)."""

EVERYWHERE = "GPUS_ALL_REGIONS"
"""The quota that all GPUs of a project count against, whatever they are."""

_SPOT_CAVEAT = (
    "Google may change spot prices once a month and takes no highest price: this one is of {as_of}; compare it with "
    "https://cloud.google.com/spot-vms/pricing"
)
_DATED_CAVEAT = "its price is of {as_of}: Google charges what it is today, and no reservation would know of a change"
_HOURS, _SHORTEST_MONTH_HOURS = 730, 672
"""Disks are charged by the share of the month that passes, and February is the dearest; ``backends.billing`` counts
730."""

_NAME = re.compile(r"(spot )?([a-z0-9-]+) in ([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class Target:
    """What an offer's name stands for."""

    type: MachineType
    spot: bool = False


@dataclass(frozen=True, slots=True)
class Quotas:
    """What the project may have: by metric in all regions together, and by region and metric. What is not known is
    empty.
    """

    project: str = ""
    everywhere: Mapping[str, int] = field(default_factory=dict)
    regions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def target_of(name: str) -> Target | None:
    """What an offer's name stands for; None if it is no name of ours."""
    match = _NAME.fullmatch(name)
    type_ = machine_types().get((match[2], match[3])) if match else None
    return Target(type_, bool(match[1])) if match and type_ else None


def offers(settings: Settings, quotas: Quotas, missing: str = "") -> Iterator[Offer]:
    """What can be asked for in the regions of the settings; ``missing`` is why nothing can be rented from here now."""
    for type_ in machine_types().values():
        if type_.region not in settings.regions:
            continue
        if type_.micros_per_hour is not None:
            yield _offer(type_, type_.micros_per_hour, settings, missing or over_quota(type_, quotas))
        if settings.spot and type_.spot_micros_per_hour is not None:
            price = type_.spot_micros_per_hour
            yield _offer(type_, price, settings, missing or over_quota(type_, quotas), spot=True)


def zones_to_ask(having: Iterable[str], region: str, avoid: frozenset[str]) -> list[str]:
    """The zones of a region to ask, in this order: within a region all cost the same."""
    return sorted(zone for zone in set(having) if zone.rpartition("-")[0] == region and zone not in avoid)


def over_quota(type_: MachineType, quotas: Quotas) -> str:
    """Why the project may not have it, in words; empty where its quotas are enough or not known.

    A machine that is deleted within 7 days may count against either of the two quotas of its GPU, and ours are.
    """
    needed, project = type_.gpu_count, quotas.project
    known = quotas.regions.get(type_.region, {})
    both = [known[metric] for metric in (type_.quota, f"PREEMPTIBLE_{type_.quota}") if metric in known]
    if both and max(both) < needed:
        return over_quota_words(project, type_.quota, f"in {type_.region}", max(both), needed)
    if quotas.everywhere.get(EVERYWHERE, needed) < needed:
        return over_quota_words(project, EVERYWHERE, "altogether", quotas.everywhere[EVERYWHERE], needed)
    return ""


def _offer(type_: MachineType, price: int, settings: Settings, missing: str, *, spot: bool = False) -> Offer:
    place = regions()[type_.region]
    return Offer(
        backend=NAME,
        name=f"{'spot ' if spot else ''}{type_.name} in {type_.region}",
        ram_bytes=type_.ram_bytes,
        disk_bytes=LARGEST_DISK,
        cpus=type_.vcpus,
        micros_per_hour=price + _local_ssd(type_, place) + place.address_micros_per_hour,
        gpu=type_.gpu,
        gpu_count=type_.gpu_count,
        vram_bytes=type_.vram_bytes,
        compute_capability=type_.compute_capability,
        source=f"price table of gpujob: {type_.source}",
        as_of=type_.as_of,
        billing=Billing(
            minimum_seconds=LEAST_SECONDS,
            disk_micros_per_gb_month=_by_shortest_month(place.disk_micros_per_gb_month),
            least_disk_bytes=settings.disk_bytes,
            egress_micros_per_gb=place.egress_micros_per_gb,
            spot=spot,
            interruptions_per_hour=INTERRUPTIONS_PER_HOUR if spot else 0.0,
        ),
        missing=missing,
        caveat=(_SPOT_CAVEAT if spot else _DATED_CAVEAT).format(as_of=type_.as_of),
    )


def _local_ssd(type_: MachineType, place: Region) -> int:
    """What an hour of the local SSD costs that comes with the machine; spot ones are charged no more."""
    return -(-type_.local_ssd_gib * place.local_ssd_micros_per_gb_month // _SHORTEST_MONTH_HOURS)


def _by_shortest_month(micros: int) -> int:
    return -(-micros * _HOURS // _SHORTEST_MONTH_HOURS)
