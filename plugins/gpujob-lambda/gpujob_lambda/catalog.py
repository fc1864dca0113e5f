"""Offers out of Lambda's list of types, or out of the dated table where it cannot be asked. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backends.base import Billing, Offer
from backends.units import parse_usd
from gpujob_lambda.replies import GIB, Type
from gpujob_lambda.settings import CONSOLE, NAME

MIB = 1 << 20
GB = 10**9

BY_THE_MINUTE = Billing(increment_seconds=60)
"""From the launch to the termination, begun minutes whole (docs.lambda.ai/public-cloud/billing, 2026-11)."""

CAVEAT = (
    "nothing ends this machine if this computer dies or loses the network for good: Lambda then bills it, switched off "
    f"or not, until somebody terminates it at {CONSOLE}"
)

ARM = "its CPU is an ARM one: programs and Python packages built for x86 alone do not run on it"

UNUSABLE_SHARE = 0.04
"""Of the VRAM that a new model's name promises a program may have to do without so much."""

_TYPE = re.compile(r"gpu_(\d+)x_(\w+)")
_PROMISED = re.compile(r"\((\d+) GB")


@dataclass(frozen=True, slots=True)
class Model:
    """A GPU model, by what Lambda's type names end with. ``vram_bytes`` is usable."""

    gpu: str
    vram_bytes: int
    compute_capability: float | None


def live_offers(types: Iterable[Type], regions: Iterable[str], as_of: str, missing: str) -> Iterator[Offer]:
    """What is free now in ``regions`` (any, where none is named); ``missing`` is why it cannot be rented from here."""
    wanted = set(regions)
    for each in types:
        free = [region for region in each.regions if not wanted or region in wanted]
        model = model_of(each.name, each.gpu)
        if free and each.gpus and model:
            yield Offer(
                backend=NAME,
                name=each.name,
                ram_bytes=each.ram_bytes,
                disk_bytes=each.disk_bytes,
                cpus=each.vcpus,
                micros_per_hour=each.micros_per_hour,
                gpu=model.gpu,
                gpu_count=each.gpus,
                vram_bytes=model.vram_bytes,
                compute_capability=model.compute_capability,
                source=f"Lambda's list of types, free in {', '.join(free)}",
                as_of=as_of,
                billing=BY_THE_MINUTE,
                missing=missing,
                caveat=caveat_of(each.name),
            )


def dated_offers(missing: str) -> Iterator[Offer]:
    """What the dated table says there was. Where it does not know the RAM, as much as the VRAM is counted on."""
    for row in _rows("prices.csv"):
        name, model = row["name"], model_of(row["name"], "")
        match = _TYPE.fullmatch(name)
        assert match, f"prices.csv: {name} is no type of Lambda's"
        assert model, f"gpus.csv lacks the model of {name}"
        count = int(match[1])
        yield Offer(
            backend=NAME,
            name=name,
            ram_bytes=int(row["ram_gib"]) * GIB if row["ram_gib"] else model.vram_bytes * count,
            disk_bytes=LEAST_DISK,
            cpus=int(row["vcpus"] or count),
            micros_per_hour=parse_usd(row["usd_per_hour"]),
            gpu=model.gpu,
            gpu_count=count,
            vram_bytes=model.vram_bytes,
            compute_capability=model.compute_capability,
            source=f"price table of gpujob-lambda: {row['source']}",
            as_of=row["as_of"],
            billing=BY_THE_MINUTE,
            missing=missing,
            caveat=caveat_of(name),
        )


LEAST_DISK = 500 * GB
"""Of a type whose disk the table does not know; the live list tells it."""


def caveat_of(type_name: str) -> str:
    """What a plan says of a type of machine."""
    return f"{CAVEAT}; {ARM}" if type_name.endswith("gh200") else CAVEAT


def model_of(type_name: str, promised: str) -> Model | None:
    """The model on record; for a new one what its description promises, taken carefully; None where it says nothing."""
    match = _TYPE.fullmatch(type_name)
    if match and (known := models().get(match[2])):
        return known
    size = _PROMISED.search(promised)
    if not size:
        return None
    return Model(promised.partition(" (")[0], int(int(size[1]) * GB * (1 - UNUSABLE_SHARE)), None)


@cache
def models() -> Mapping[str, Model]:
    """The models on record."""
    return {
        row["model"]: Model(row["gpu"], int(row["usable_vram_mib"]) * MIB, float(row["compute_capability"]))
        for row in _rows("gpus.csv")
    }


def _rows(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
