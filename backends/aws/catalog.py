"""Offers out of AWS's prices, or out of the dated table where they cannot be read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from backends.aws.replies import over_quota_words
from backends.aws.requests import quota_code
from backends.aws.settings import Settings
from backends.aws.stage_requests import planned_micros
from backends.aws.tables import GB, PRICED_REGION, InstanceType, Region, regions, types
from backends.base import Billing, Offer

NAME = "aws"

LEAST_SECONDS = 60
"""Linux instances are charged by the second, and for a minute at least."""

LARGEST_DISK = 16_000 * GB
"""What a gp3 volume can be."""

INTERRUPTIONS_PER_HOUR = 0.05
"""How often a spot instance is taken back: AWS's advisor tells it by month and type only; own experience corrects this
(docs/learning.md)."""

_HOURS, _SHORTEST_MONTH_HOURS = 730, 672
"""EBS charges by the share of the month that passes, and February is the dearest; ``backends.billing`` counts 730."""

_NOT_TODAYS = (
    "its price is of {}: AWS charges what it is today, and these credentials may not read that (pricing:GetProducts)"
)

_NAME = re.compile(r"(spot )?([a-z0-9-]+\.[a-z0-9]+) in ([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class Target:
    """What an offer's name stands for."""

    type: InstanceType
    region: str
    spot: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What AWS says of one region now. Micro-dollars per hour by type, spot by type and zone; ``quotas`` are vCPUs by
    the code of the quota. What could not be read is empty.
    """

    on_demand: Mapping[str, int] = field(default_factory=dict)
    spot: Mapping[tuple[str, str], int] = field(default_factory=dict)
    quotas: Mapping[str, int] = field(default_factory=dict)


def target_of(name: str) -> Target | None:
    """What an offer's name stands for; None if it is no name of ours."""
    match = _NAME.fullmatch(name)
    if match is None or match[2] not in types() or match[3] not in regions():
        return None
    return Target(types()[match[2]], match[3], bool(match[1]))


def live_offers(region: str, reading: Reading, settings: Settings, today: str) -> Iterator[Offer]:
    """What can be asked for in a region: at AWS's own prices, or at the dated ones where they are of this region."""
    place = regions()[region]
    for type_ in types().values():
        if price := reading.on_demand.get(type_.name):
            yield _offer(type_, place, price, settings, "AWS's price list", today, reading)
        elif region == PRICED_REGION and not reading.on_demand:
            yield replace(_dated(type_, place, settings, reading), caveat=_NOT_TODAYS.format(type_.as_of))
        if settings.spot and (zones := cheapest_zones(reading.spot, type_.name)):
            source = f"AWS's spot price in {zones[0]}; the instance can be taken back with two minutes' notice"
            price = reading.spot[type_.name, zones[0]]
            yield _offer(type_, place, price, settings, source, today, reading, spot=True)


def dated_offers(settings: Settings, missing: str) -> Iterator[Offer]:
    """What the dated table says there was; ``missing`` is why none of it can be rented from here now."""
    if PRICED_REGION not in settings.regions:
        return
    place = regions()[PRICED_REGION]
    for type_ in types().values():
        yield replace(_dated(type_, place, settings, Reading()), missing=missing)


def _dated(type_: InstanceType, place: Region, settings: Settings, reading: Reading) -> Offer:
    source = f"price table of gpujob: {type_.source}"
    return _offer(type_, place, type_.micros_per_hour, settings, source, type_.as_of, reading)


def with_staging(offers: Iterable[Offer], upload_bytes: int, settings: Settings) -> Iterator[Offer]:
    """The same, with what it costs to bring files of so many bytes there by S3, where that is how they go."""
    staged = settings.stage_from is not None and upload_bytes >= settings.stage_from
    for offer in offers:
        target = target_of(offer.name)
        if not staged or target is None:
            yield offer
            continue
        cost = planned_micros(upload_bytes, regions()[target.region])
        yield replace(offer, billing=replace(offer.billing, upload_micros=cost))


def cheapest_zones(spot: Mapping[tuple[str, str], int], type_: str) -> list[str]:
    """The zones that have a spot price for a type, the cheapest first."""
    return [zone for _, zone in sorted((price, zone) for (name, zone), price in spot.items() if name == type_)]


def zones_to_ask(
    zones: Iterable[str], spot: Mapping[tuple[str, str], int], target: Target, most_micros: int, avoid: frozenset[str]
) -> list[str]:
    """The zones to ask, in this order. Spot: those with a price, the cheapest first, none above what was offered."""
    free = [zone for zone in sorted(zones) if zone not in avoid]
    if not target.spot:
        return free
    priced = [zone for zone in cheapest_zones(spot, target.type.name) if zone in free]
    return [zone for zone in priced if spot[target.type.name, zone] <= most_micros]


def spot_micros(offer: Offer, region: Region) -> int:
    """What an hour of the instance alone may cost, so that the offer's price holds."""
    return offer.micros_per_hour - region.address_micros_per_hour


def _offer(
    type_: InstanceType, place: Region, price: int, settings: Settings, source: str, as_of: str, reading: Reading,
    *, spot: bool = False,
) -> Offer:  # fmt: skip
    return Offer(
        backend=NAME,
        name=f"{'spot ' if spot else ''}{type_.name} in {place.name}",
        ram_bytes=type_.ram_bytes,
        disk_bytes=LARGEST_DISK,
        cpus=type_.vcpus,
        micros_per_hour=price + place.address_micros_per_hour,
        gpu=type_.gpu,
        gpu_count=type_.gpu_count,
        vram_bytes=type_.vram_bytes,
        compute_capability=type_.compute_capability,
        source=source,
        as_of=as_of,
        billing=Billing(
            minimum_seconds=LEAST_SECONDS,
            disk_micros_per_gb_month=-(-place.disk_micros_per_gb_month * _HOURS // _SHORTEST_MONTH_HOURS),
            least_disk_bytes=settings.disk_bytes,
            egress_micros_per_gb=place.egress_micros_per_gb,
            spot=spot,
            interruptions_per_hour=INTERRUPTIONS_PER_HOUR if spot else 0.0,
        ),
        missing=_over_quota(type_, place.name, reading, spot=spot),
    )


def _over_quota(type_: InstanceType, region: str, reading: Reading, *, spot: bool) -> str:
    """Why the account may not run it, in words; empty where its quota is enough or not known."""
    code = quota_code(type_.name, spot=spot)
    vcpus = reading.quotas.get(code)
    if vcpus is None or vcpus >= type_.vcpus:
        return ""
    return over_quota_words(region, code, vcpus, type_.vcpus, type_.family, spot=spot)
