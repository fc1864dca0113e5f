"""Offers out of RunPod's catalogue, or out of the dated table where it cannot be asked. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backends.base import Billing, Offer
from backends.rented.calls import Malformed
from backends.runpod.replies import micros
from backends.runpod.settings import Settings
from backends.runpod.tables import GB, DatedPrice, Model, dated_prices, model_of, models

NAME = "runpod"

DISK_MICROS_PER_GB_MONTH = 101_389
"""Container disk of a running pod: $0.10 per GB and month (docs.runpod.io/pods/pricing, 2026-08). It does not say how
long a month is: 30 days are taken, shorter than the 730 hours that ``backends.billing`` counts a month with."""

LARGEST_DISK = 500 * GB
"""Container disk that is asked for at most. What a host has free is told only by its refusal."""

INTERRUPTIONS_PER_HOUR = 0.1
"""How often a spot pod is taken back. RunPod publishes no figure; own experience corrects it (docs/learning.md)."""

VCPU_SIZES = (2, 4, 8, 16, 32)

_GPU_NAME = re.compile(r"(?:(\d+) x )?(spot )?(secure|community) (.+)")
_CPU_NAME = re.compile(r"cpu (\S+) with (\d+) vCPU")


@dataclass(frozen=True, slots=True)
class Stock:
    """A GPU model as the live catalogue lists it for one cloud. ``free`` says whether any can be had now."""

    model: Model
    cloud: str
    micros_per_gpu_hour: int
    most: int
    level: str
    places: tuple[str, ...]

    @property
    def free(self) -> bool:
        """Whether the catalogue has any in stock; a catalogue that says nothing about it is tried."""
        return self.level != "NONE"


@dataclass(frozen=True, slots=True)
class Flavour:
    """A CPU flavour of the live catalogue; pods of it exist in the secure cloud only."""

    id: str
    least_vcpus: int
    most_vcpus: int
    ram_bytes_per_vcpu: int
    micros_per_vcpu_hour: int
    level: str


@dataclass(frozen=True, slots=True)
class Target:
    """What an offer's name stands for: ``count`` GPUs called ``short``, or ``vcpus`` of the CPU flavour ``short``."""

    short: str
    cloud: str
    count: int = 0
    vcpus: int = 0
    spot: bool = False


def read_stock(value: Any, cloud: str) -> list[Stock]:
    """The NVIDIA models that ``cloud`` has at all. Raises Malformed.

    The price of a cloud that does not have a model is a placeholder (0.50, or 0): the boolean decides.
    """
    if not isinstance(value, dict) or not isinstance(value.get("gpus"), list):
        raise Malformed("no list 'gpus'")
    found = []
    for gpu in value["gpus"]:
        price = micros((gpu.get("price") or {}).get(cloud) or 0)
        if gpu.get(cloud) is not True or price <= 0 or str(gpu.get("manufacturer", "NVIDIA")).upper() != "NVIDIA":
            continue
        found.append(
            Stock(
                model=model_of(str(gpu["id"]), str(gpu.get("name") or gpu["id"]), int(gpu.get("memory") or 0)),
                cloud=cloud,
                micros_per_gpu_hour=price,
                most=int((gpu.get("maxCount") or {}).get(cloud) or 0),
                level=str(gpu.get("availability") or ""),
                places=tuple(
                    str(each["id"]) for each in gpu.get("dataCenters") or () if each.get("availability") != "NONE"
                ),
            )
        )
    return found


def read_flavours(value: Any) -> list[Flavour]:
    """The CPU flavours. Raises Malformed."""
    if not isinstance(value, dict) or not isinstance(value.get("cpus"), list):
        raise Malformed("no list 'cpus'")
    return [
        Flavour(
            id=str(cpu["id"]),
            least_vcpus=int(cpu["vcpu"]["min"]),
            most_vcpus=int(cpu["vcpu"]["max"]),
            ram_bytes_per_vcpu=int(cpu["ramGbPerVcpu"] * GB),
            micros_per_vcpu_hour=micros(cpu["price"]["securePerVcpu"]),
            level=str(cpu.get("availability") or ""),
        )
        for cpu in value["cpus"]
    ]


def gpu_offers(stocks: Iterable[Stock], count: int, settings: Settings, as_of: str) -> Iterator[Offer]:
    """What of ``stocks`` can be had now, one GPU each and, if several are needed, ``count`` of them."""
    for stock in stocks:
        if not stock.free or not _wanted_place(stock, settings):
            continue
        source = f"RunPod's catalogue, stock {stock.level.lower() or 'not told'}"
        for n in sorted({1, count}):
            if n <= stock.most:
                yield _gpu_offer(stock.model, stock.cloud, n, stock.micros_per_gpu_hour, settings, source, as_of)


def spot_offers(
    stocks: Iterable[Stock], bids: Mapping[tuple[str, str], int], count: int, settings: Settings, as_of: str
) -> Iterator[Offer]:
    """The same as spot pods, at the least bid: ``bids`` holds it in micro-dollars per GPU-hour by id and cloud."""
    for stock in stocks:
        bid = bids.get((stock.model.id, stock.cloud), 0)
        if 0 < bid < stock.micros_per_gpu_hour and count <= stock.most and _wanted_place(stock, settings):
            source = "RunPod's least bid; the pod can be taken back at any moment"
            yield _gpu_offer(stock.model, stock.cloud, count, bid, settings, source, as_of, spot=True)


def cpu_offers(flavours: Iterable[Flavour], settings: Settings, as_of: str) -> Iterator[Offer]:
    """Pods without a GPU, in sizes of powers of two."""
    for flavour in flavours:
        if flavour.level == "NONE" or not flavour.micros_per_vcpu_hour:
            continue
        for vcpus in VCPU_SIZES:
            if flavour.least_vcpus <= vcpus <= flavour.most_vcpus:
                yield Offer(
                    backend=NAME,
                    name=f"cpu {flavour.id} with {vcpus} vCPU",
                    ram_bytes=flavour.ram_bytes_per_vcpu * vcpus,
                    disk_bytes=LARGEST_DISK,
                    cpus=vcpus,
                    micros_per_hour=flavour.micros_per_vcpu_hour * vcpus,
                    source=f"RunPod's catalogue, stock {flavour.level.lower() or 'not told'}",
                    as_of=as_of,
                    billing=_billing(settings),
                )


def dated_offers(count: int, settings: Settings, missing: str) -> Iterator[Offer]:
    """What the dated table says there was; ``missing`` is why none of it can be rented from here now."""
    for price in dated_prices():
        if price.cloud not in settings.clouds:
            continue
        for n in sorted({1, count}):
            yield _dated(price, n, settings, missing)


def _dated(price: DatedPrice, count: int, settings: Settings, missing: str) -> Offer:
    source = f"price table of gpujob: {price.source}"
    return _gpu_offer(
        models()[price.id], price.cloud, count, price.micros_per_hour, settings, source, price.as_of, missing=missing
    )


def _gpu_offer(
    model: Model, cloud: str, count: int, micros_per_gpu_hour: int, settings: Settings, source: str, as_of: str,
    *, spot: bool = False, missing: str = "",
) -> Offer:  # fmt: skip
    return Offer(
        backend=NAME,
        name=f"{f'{count} x ' if count > 1 else ''}{'spot ' if spot else ''}{cloud} {short_name(model.id)}",
        ram_bytes=max(model.ram_bytes, settings.min_ram_per_gpu) * count,
        disk_bytes=LARGEST_DISK,
        cpus=model.vcpus * count,
        micros_per_hour=micros_per_gpu_hour * count,
        gpu=model.gpu,
        gpu_count=count,
        vram_bytes=model.vram_bytes,
        compute_capability=model.compute_capability,
        source=source,
        as_of=as_of,
        billing=_billing(settings, spot=spot),
        missing=missing,
    )


def _billing(settings: Settings, *, spot: bool = False) -> Billing:
    """By the second; every pod gets the disk that is set, and is charged for it."""
    return Billing(
        disk_micros_per_gb_month=DISK_MICROS_PER_GB_MONTH,
        least_disk_bytes=settings.disk_bytes,
        spot=spot,
        interruptions_per_hour=INTERRUPTIONS_PER_HOUR if spot else 0.0,
    )


def short_name(id_: str) -> str:
    """RunPod's id of a model without the words that every one of them has."""
    return id_.removeprefix("NVIDIA ").removeprefix("GeForce ")


def target_of(name: str) -> Target | None:
    """What an offer's name stands for; None if it is no name of ours."""
    if match := _CPU_NAME.fullmatch(name):
        return Target(match[1], "secure", vcpus=int(match[2]))
    if match := _GPU_NAME.fullmatch(name):
        return Target(match[4], match[3], count=int(match[1] or 1), spot=bool(match[2]))
    return None


def _wanted_place(stock: Stock, settings: Settings) -> bool:
    """Whether it is free in a data centre that the user wants; where the catalogue names none, RunPod decides."""
    return not settings.data_centers or not stock.places or bool(set(stock.places) & set(settings.data_centers))
