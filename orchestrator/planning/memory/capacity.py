"""Which GPUs and places would take it, with the chance that each runs out of memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.catalog.gpus import GpuFacts
from orchestrator.catalog.places import Target
from orchestrator.planning.memory.estimate import MemoryEstimate


@dataclass(frozen=True, slots=True)
class Fit:
    """A capacity in bytes and the chance that it does not suffice."""

    name: str
    kind: str
    capacity_bytes: int
    p_oom: float

    @property
    def verdict(self) -> str:
        """``fits``, ``risky`` or ``no``."""
        return "fits" if self.p_oom < 0.05 else "risky" if self.p_oom <= 0.5 else "no"


def gpu_fits(estimate: MemoryEstimate, gpus: Iterable[GpuFacts]) -> list[Fit]:
    """Every GPU by its usable capacity, smallest first."""
    need = estimate.vram_need()
    if need is None:
        return []
    fits = [Fit(gpu.name, "VRAM", gpu.usable_bytes, need.p_oom(gpu.usable_bytes)) for gpu in gpus]
    return sorted(fits, key=lambda fit: (fit.capacity_bytes, fit.name))


def target_fit(estimate: MemoryEstimate, target: Target) -> Fit:
    """The RAM of a named place, less what is in use there from the start."""
    ram = estimate.as_need().ram
    assert ram is not None
    return Fit(target.name, "RAM", target.usable_bytes, ram.p_oom(target.usable_bytes))
