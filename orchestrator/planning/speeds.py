"""How fast GPUs are, to carry a duration from one to another. NVIDIA datasheets, dense figures; read 2026-10.

A name that is not here has no speed: times on it are taken as stated, with a wider spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from orchestrator.planning.gpu_names import is_called

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

_SPEEDS = (
    ("RTX 4090 Laptop", Speed(86, 576)),
    ("RTX PRO 6000", Speed(252, 1597)),
    ("RTX 6000 Ada", Speed(364, 960)),
    ("RTX 5090", Speed(209.5, 1792)),
    ("RTX 4090", Speed(165, 1008)),
    ("RTX 3090", Speed(71, 936)),
    ("A100 80GB PCIe", Speed(312, 1935)),
    ("A100 80GB", Speed(312, 2039)),
    ("A100", Speed(312, 1555)),
    ("GH200", Speed(989, 4000)),
    ("H200", Speed(989, 4800)),
    ("H100 NVL", Speed(835, 3900)),
    ("H100 PCIe", Speed(756, 2000)),
    ("H100", Speed(989, 3350)),
    ("B200", Speed(2250, 8000)),
    ("L40S", Speed(362, 864)),
    ("L40", Speed(181, 864)),
    ("A40", Speed(149.7, 696)),
    ("A10G", Speed(70, 600)),
    ("A10", Speed(125, 600)),
    ("RTX A6000", Speed(154.8, 768)),
    ("RTXA6000", Speed(154.8, 768)),
    ("RTX A5000", Speed(111, 768)),
    ("RTX A4000", Speed(76.7, 448)),
    ("RTXA4000", Speed(76.7, 448)),
    ("V100", Speed(125, 900)),
    ("L4", Speed(121, 300)),
    ("T4", Speed(65, 320)),
)
"""The more exact name first: the first that fits is taken."""


@lru_cache(maxsize=4096)
def speed_of(gpu: str | None) -> Speed | None:
    """The speed of a GPU by the name that a provider or a person gives it; of a CPU for None or ``cpu``."""
    if gpu is None or gpu.strip().lower() == "cpu":
        return CPU
    return next((speed for name, speed in _SPEEDS if is_called(gpu, name)), None)
