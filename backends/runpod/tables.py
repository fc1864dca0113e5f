"""What is known of RunPod's GPU models without asking: hardware and, for want of a key, prices. Dated CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backends.units import parse_usd

_HERE = Path(__file__).parent

MIB = 1 << 20
GB = 10**9


@dataclass(frozen=True, slots=True)
class Model:
    """A GPU model by RunPod's id. Sizes in bytes; ``ram_bytes`` and ``vcpus`` are what RunPod's hosts have per GPU."""

    id: str
    gpu: str
    vram_bytes: int
    compute_capability: float | None
    ram_bytes: int
    vcpus: int


@dataclass(frozen=True, slots=True)
class DatedPrice:
    """What one GPU of a model cost, in micro-dollars per hour, in one cloud (``secure``, ``community``)."""

    id: str
    cloud: str
    micros_per_hour: int
    source: str
    as_of: str


VCPUS_UNKNOWN = 3
"""The fewest that any model on record has per GPU."""

UNUSABLE_SHARE = 0.04
"""Of the VRAM that a new model's name promises a program may have to do without so much: a little more than with any
model on record, where it is 3.3 % at most (RTX A2000)."""


@cache
def models() -> Mapping[str, Model]:
    """The models on record, by RunPod's id."""
    return {row["id"]: _model(row) for row in _rows("gpus.csv")}


def model_of(id_: str, name: str, memory_gb: int) -> Model:
    """The model on record; for a new one what its name promises, taken carefully."""
    if known := models().get(id_):
        return known
    vram = int(memory_gb * GB * (1 - UNUSABLE_SHARE))
    return Model(id_, name, vram, None, memory_gb * GB, VCPUS_UNKNOWN)


@cache
def dated_prices() -> tuple[DatedPrice, ...]:
    """The prices on record."""
    return tuple(
        DatedPrice(row["id"], row["cloud"], parse_usd(row["usd_per_gpu_hour"]), row["source"], row["as_of"])
        for row in _rows("prices.csv")
    )


def _model(row: Mapping[str, str]) -> Model:
    """Where no RAM is noted it is as much as the VRAM: that much is asked for at creation, and so is there."""
    vram = int(row["usable_vram_mib"]) * MIB
    return Model(
        id=row["id"],
        gpu=row["gpu"],
        vram_bytes=vram,
        compute_capability=float(row["compute_capability"]) if row["compute_capability"] else None,
        ram_bytes=int(row["ram_gb"]) * GB if row["ram_gb"] else vram // GB * GB,
        vcpus=int(row["vcpus"] or VCPUS_UNKNOWN),
    )


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_HERE / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
