"""What is known of AWS without asking: GPU instance types with dated prices, and what a region charges beside them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backends.units import parse_usd

MIB = 1 << 20
GB = 10**9

PRICED_REGION = "us-east-1"
"""The region that the dated prices are of."""

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class InstanceType:
    """A machine by EC2's name. Sizes in bytes, VRAM per GPU as a program can have it; the price in micro-dollars per
    hour on demand in :data:`PRICED_REGION`, Linux, at ``as_of``.
    """

    name: str
    gpu: str
    gpu_count: int
    vram_bytes: int
    compute_capability: float
    ram_bytes: int
    vcpus: int
    micros_per_hour: int
    source: str
    as_of: str

    @property
    def family(self) -> str:
        """The letter that EC2's quotas go by: G or P."""
        return self.name[0].upper()


@dataclass(frozen=True, slots=True)
class Region:
    """What one region charges beside the instance, in micro-dollars: gp3 volumes per GB and month, traffic out to the
    internet per GB, a public IPv4 address per hour; S3's standard storage per GB and month, and 1,000 of its requests
    that put something.
    """

    name: str
    disk_micros_per_gb_month: int
    egress_micros_per_gb: int
    address_micros_per_hour: int
    storage_micros_per_gb_month: int
    puts_micros_per_1000: int
    source: str
    as_of: str


@cache
def types() -> Mapping[str, InstanceType]:
    """The instance types on record, by name."""
    return {row["type"]: _type(row) for row in _rows("types.csv")}


@cache
def regions() -> Mapping[str, Region]:
    """The regions on record, by name."""
    return {row["region"]: _region(row) for row in _rows("regions.csv")}


def _type(row: Mapping[str, str]) -> InstanceType:
    return InstanceType(
        name=row["type"],
        gpu=row["gpu"],
        gpu_count=int(row["gpus"]),
        vram_bytes=int(row["usable_vram_mib"]) * MIB,
        compute_capability=float(row["compute_capability"]),
        ram_bytes=int(row["ram_gb"]) * GB,
        vcpus=int(row["vcpus"]),
        micros_per_hour=parse_usd(row["usd_per_hour"]),
        source=row["source"],
        as_of=row["as_of"],
    )


def _region(row: Mapping[str, str]) -> Region:
    return Region(
        name=row["region"],
        disk_micros_per_gb_month=parse_usd(row["disk_usd_per_gb_month"]),
        egress_micros_per_gb=parse_usd(row["egress_usd_per_gb"]),
        address_micros_per_hour=parse_usd(row["address_usd_per_hour"]),
        storage_micros_per_gb_month=parse_usd(row["storage_usd_per_gb_month"]),
        puts_micros_per_1000=parse_usd(row["puts_usd_per_1000"]),
        source=row["source"],
        as_of=row["as_of"],
    )


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_HERE / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
