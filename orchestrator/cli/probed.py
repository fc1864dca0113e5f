"""The estimate of a job that was probed, in the form of any estimate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from orchestrator.catalog.gpus import GpuFacts
from orchestrator.catalog.places import Target
from orchestrator.planning.memory.capacity import Fit
from orchestrator.planning.probe import Line, Probed

Z90 = 1.645
"""Between this many spreads below and above the median lie 90 %."""


def probed_fits(probed: Probed, batch: int, gpus: Iterable[GpuFacts], target: Target | None) -> list[Fit]:
    """Where it fits: GPUs if VRAM was measured, smallest first, and the target by its RAM."""
    vram, ram = probed.vram(), probed.ram()
    fits = []
    if vram:
        need = vram.need(batch)
        found = [Fit(gpu.name, "VRAM", gpu.usable_bytes, need.p_oom(gpu.usable_bytes)) for gpu in gpus]
        fits += sorted(found, key=lambda fit: (fit.capacity_bytes, fit.name))
    if target and ram:
        fits.append(Fit(target.name, "RAM", target.usable_bytes, ram.need(batch).p_oom(target.usable_bytes)))
    return fits


def probed_value(probed: Probed, batch: int, room: Fit | None) -> dict[str, Any]:
    """All of an estimate but its fits; the largest batch is that for ``room``."""
    ram, vram = probed.ram(), probed.vram()
    leading = vram or ram
    within = vram if room and room.kind == "VRAM" else ram
    largest = {"on": room.name, "batch_size": within.largest(room.capacity_bytes)} if room and within else None
    return {
        "vram": {
            "peak_bytes": vram.at(batch) if vram else 0,
            "allocated_bytes": None,
            "reserved_bytes": None,
            "phase": "the peak of a run",
            "terms": _terms(vram, batch),
        },
        "ram": {"peak_bytes": ram.at(batch) if ram else 0, "terms": _terms(ram, batch)},
        "interval": interval(leading, batch) if leading else None,
        "confidence": "medium",
        "levers": [],
        "largest": {**largest, "seq_len": None} if largest else None,
        "notes": [probed.note(batch)],
    }


def interval(line: Line, batch: int) -> dict[str, int]:
    """Bytes that suffice with 5, 50 and 95 %."""
    middle, spread = line.at(batch), Z90 * line.sigma(batch)
    return {"p05": round(middle * math.exp(-spread)), "p50": middle, "p95": round(middle * math.exp(spread))}


def _terms(line: Line | None, batch: int) -> dict[str, int]:
    if line is None:
        return {}
    terms = {"whatever the batch": line.fixed, f"batch of {batch}": line.at(batch) - line.fixed}
    return {name: size for name, size in terms.items() if size}
