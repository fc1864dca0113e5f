"""How fast GPUs are, to carry a duration from one to another: dense figures of the table of GPUs.

A GPU that the table does not know has no speed: times on it are taken as stated, with a wider spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from orchestrator.catalog.gpus import bundled_gpus

Bound = Literal["compute", "memory", "host"]
"""What limits a job: arithmetic, memory bandwidth, or the machine around the GPU, which no GPU makes faster."""


@dataclass(frozen=True, slots=True)
class Speed:
    """``tflops``: dense 16-bit, accumulated in 32; ``gb_per_second``: memory bandwidth."""

    tflops: float
    gb_per_second: float

    def ratio(self, other: Speed, bound: Bound | None) -> float:
        """How many times faster than ``other``; the geometric mean of both figures where the bound is not known."""
        compute, memory = self.tflops / other.tflops, self.gb_per_second / other.gb_per_second
        ratios: dict[Bound | None, float] = {"compute": compute, "memory": memory, "host": 1.0}
        return ratios.get(bound, math.sqrt(compute * memory))


CPU = Speed(tflops=1.0, gb_per_second=40.0)
"""A small rented CPU machine: a T4 generates text some 30 times as fast (document 004), trains 65 times."""


@lru_cache(maxsize=4096)
def speed_of(gpu: str | None) -> Speed | None:
    """The speed of a GPU by the name that a provider or a person gives it; of a CPU for None or ``cpu``."""
    if gpu is None or gpu.strip().lower() == "cpu":
        return CPU
    facts = bundled_gpus().find(gpu)
    if facts is None or facts.fp16_tflops is None or facts.bandwidth_gb_s is None:
        return None
    return Speed(facts.fp16_tflops, facts.bandwidth_gb_s)
