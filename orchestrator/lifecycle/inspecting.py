"""Whether a machine that was just obtained has the GPUs that are paid for. One that has not is no place for the job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backends.base import Offer, SeenGpu
from orchestrator.catalog.gpus import bundled_gpus
from orchestrator.lifecycle.patience import PatientMachine

DRIVER_SECONDS = 180.0
"""A driver may be loaded only after sshd answers, when a machine boots; longer than this it is not waited for."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What a machine lacks, in words. ``passing``: it may be there in a moment."""

    words: str
    passing: bool = False


def lack_of(machine: PatientMachine, offer: Offer | None) -> Lack | None:
    """What is wrong with the GPUs of ``machine``; None where nothing is, or nobody can tell."""
    if offer is None or not offer.gpu_count:
        return None
    seen = machine.gpus()
    return None if seen is None else lack_among(seen, offer)


def lack_among(seen: Sequence[SeenGpu], offer: Offer) -> Lack | None:
    """As :func:`lack_of`, of the GPUs that its driver shows."""
    paid_for = f"{offer.gpu_count} x {offer.gpu}" if offer.gpu_count > 1 else str(offer.gpu)
    if len(seen) < offer.gpu_count:
        shown = f"{len(seen)} of its {offer.gpu_count} GPUs" if seen else "no GPU"
        return Lack(f"its driver shows {shown}; {paid_for} is paid for", passing=True)
    other = next((gpu for gpu in seen if _is_another(gpu, offer)), None)
    return Lack(f"it has {other.name}; {paid_for} is paid for") if other else None


def _is_another(gpu: SeenGpu, offer: Offer) -> bool:
    """Whether the driver's name and the offer's are names of different models; a model unknown to us may be right."""
    table = bundled_gpus()
    has, wanted = table.find(gpu.name, gpu.vram_bytes), table.find(offer.gpu or "", offer.vram_bytes)
    return has is not None and wanted is not None and has.name != wanted.name
