"""What is known of Compute Engine without asking: GPU machine types with dated prices, and what a region charges beside
them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backends.units import parse_usd

MIB = 1 << 20
GB = 10**9

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class MachineType:
    """A machine by Compute Engine's name, in the one region that its prices are of: host and GPUs together.

    Sizes in bytes, VRAM per GPU as a program can have it; ``local_ssd_gib`` of local SSD come with it and are charged
    apart. Prices in micro-dollars per hour at ``as_of``; None where it is not sold that way. ``quota`` is the metric
    that its GPUs count against.
    """

    name: str
    region: str
    gpu: str
    gpu_count: int
    vram_bytes: int
    compute_capability: float
    ram_bytes: int
    vcpus: int
    local_ssd_gib: int
    micros_per_hour: int | None
    spot_micros_per_hour: int | None
    quota: str
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class Region:
    """What one region charges beside the machine, in micro-dollars: balanced disks and local SSD per GB and month,
    traffic out to the internet per GB, an external IPv4 address per hour. Google's GB are GiB.
    """

    name: str
    disk_micros_per_gb_month: int
    local_ssd_micros_per_gb_month: int
    egress_micros_per_gb: int
    address_micros_per_hour: int
    source: str
    as_of: str


@cache
def machine_types() -> Mapping[tuple[str, str], MachineType]:
    """The machine types on record, by name and region."""
    found = [_machine_type(row) for row in _rows("machines.csv")]
    return {(each.name, each.region): each for each in found}


@cache
def regions() -> Mapping[str, Region]:
    """The regions on record, by name."""
    return {row["region"]: _region(row) for row in _rows("regions.csv")}


def _machine_type(row: Mapping[str, str]) -> MachineType:
    return MachineType(
        name=row["machine"],
        region=row["region"],
        gpu=row["gpu"],
        gpu_count=int(row["gpus"]),
        vram_bytes=int(row["usable_vram_mib"]) * MIB,
        compute_capability=float(row["compute_capability"]),
        ram_bytes=int(row["ram_gb"]) * GB,
        vcpus=int(row["vcpus"]),
        local_ssd_gib=int(row["local_ssd_gib"]),
        micros_per_hour=_price(row["usd_per_hour"]),
        spot_micros_per_hour=_price(row["spot_usd_per_hour"]),
        quota=row["quota"],
        source=row["source"],
        as_of=row["as_of"],
    )


def _region(row: Mapping[str, str]) -> Region:
    return Region(
        name=row["region"],
        disk_micros_per_gb_month=parse_usd(row["disk_usd_per_gb_month"]),
        local_ssd_micros_per_gb_month=parse_usd(row["local_ssd_usd_per_gb_month"]),
        egress_micros_per_gb=parse_usd(row["egress_usd_per_gb"]),
        address_micros_per_hour=parse_usd(row["address_usd_per_hour"]),
        source=row["source"],
        as_of=row["as_of"],
    )


def _price(text: str) -> int | None:
    return parse_usd(text) if text else None


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_HERE / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
