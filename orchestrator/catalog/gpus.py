"""What is known of each GPU model, and which model a name means."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestrator.catalog.rows import Row, read_rows

BUNDLED_GPUS = Path(__file__).with_name("gpus.csv")

MIB = 1 << 20
GB = 10**9

_COLUMNS = (
    "gpu", "aliases", "arch", "compute_capability", "vram_gb", "vram_mib", "usable_mib", "bandwidth_gb_s",
    "fp16_tflops", "fp8_tflops", "bf16", "fp8", "tdp_w", "source", "date", "confidence", "note",
)  # fmt: skip

_NOISE = re.compile(r"\b(nvidia|amd|geforce|gpu|generation|edition|instinct|tesla|quadro)\b")
"""Words around a model's name that tell nothing."""

_LEAST_RESERVED = 200_000_000
_RESERVED_SHARE = 0.013
"""What driver and ECC keep of the VRAM where nobody has measured it: 1.3 % of an RTX 6000 Ada, never below 0.2 GB."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One model. Sizes in bytes, rates in units of 10^9 and 10^12 per second; None where not known.

    ``marketing_bytes`` is what the name promises, ``vram_bytes`` what ``nvidia-smi`` reports, ``usable_bytes`` what a
    program can have of it.
    """

    name: str
    aliases: tuple[str, ...]
    arch: str
    compute_capability: float | None
    marketing_bytes: int
    vram_bytes: int
    usable_bytes: int
    bandwidth_gb_s: float | None
    fp16_tflops: float | None
    fp8_tflops: float | None
    bf16: bool
    fp8: bool
    tdp_w: float | None
    source: str
    date: str
    confidence: str
    note: str


class GpuTable:
    """GPU models by every name that drivers and providers give them."""

    def __init__(self, gpus: Iterable[GpuFacts]) -> None:
        self.gpus = tuple(gpus)
        self._by_name: defaultdict[str, list[GpuFacts]] = defaultdict(list)
        for gpu in self.gpus:
            for name in dict.fromkeys(map(_key, (gpu.name, *gpu.aliases))):
                self._by_name[name].append(gpu)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name and alias of a model."""
        return tuple(name for gpu in self.gpus for name in (gpu.name, *gpu.aliases))

    def find(self, name: str, vram_bytes: int | None = None) -> GpuFacts | None:
        """The model that ``name`` means, such as ``Tesla T4`` or ``NVIDIA A100-SXM4-80GB``; None if unknown.

        A name that several sizes share is told apart by ``vram_bytes``, and is the smallest without it.
        """
        found = self._by_name.get(_key(name), [])
        if vram_bytes is None:
            return min(found, key=lambda gpu: gpu.vram_bytes, default=None)
        return min(found, key=lambda gpu: abs(gpu.vram_bytes - vram_bytes), default=None)


@cache
def bundled_gpus() -> GpuTable:
    """The table that comes with the program."""
    return load_gpus(BUNDLED_GPUS)


def load_gpus(path: Path) -> GpuTable:
    """The table in a CSV file. Raises CatalogError."""
    return GpuTable(read_rows(path, _COLUMNS, _gpu))


def _gpu(row: Row) -> GpuFacts:
    marketing = round(row.needed_number("vram_gb") * GB)
    vram = (row.whole("vram_mib") or 0) * MIB or marketing
    usable = (row.whole("usable_mib") or 0) * MIB or vram - max(_LEAST_RESERVED, round(vram * _RESERVED_SHARE))
    if not usable < vram <= 1.1 * marketing:
        raise ValueError(f"VRAM of {vram:,} B, {usable:,} usable, does not go with {marketing // GB} GB")
    return GpuFacts(
        name=row.needed("gpu"),
        aliases=tuple(alias for alias in row.text("aliases").split(";") if alias),
        arch=row.text("arch"),
        compute_capability=row.number("compute_capability"),
        marketing_bytes=marketing,
        vram_bytes=vram,
        usable_bytes=usable,
        bandwidth_gb_s=row.number("bandwidth_gb_s"),
        fp16_tflops=row.number("fp16_tflops"),
        fp8_tflops=row.number("fp8_tflops"),
        bf16=row.yes("bf16"),
        fp8=row.yes("fp8"),
        tdp_w=row.number("tdp_w"),
        source=row.needed("source"),
        date=row.needed("date"),
        confidence=row.needed("confidence"),
        note=row.text("note"),
    )


def _key(name: str) -> str:
    """The name without noise, blanks and signs: ``NVIDIA GeForce RTX 4090`` and ``RTX4090`` are the same."""
    return re.sub(r"[^a-z0-9]", "", _NOISE.sub("", name.lower()))
