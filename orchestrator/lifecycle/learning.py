"""From the observations on record to calibrated needs: what the planner is given to know."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping

from orchestrator.catalog.gpus import bundled_gpus
from orchestrator.catalog.providers import provider
from orchestrator.lifecycle.outcome import Outcome
from orchestrator.planning.learning import Calibration, Measured, Observed, Subject
from orchestrator.planning.need import VariantNeed
from orchestrator.records.learned import Recorded, newest_ends, newest_observations
from orchestrator.records.reading import Reader

_LOOKED_AT = 1000
"""Observations, and ends of attempts, that are read for one plan. The calibration takes the newest few hundred with
figures of a kind."""

_FAILED_BY_BACKEND = (Outcome.LOST, Outcome.UNREACHABLE, Outcome.NO_CAPACITY)
_GUESS_WEIGHT = 20
"""How many attempts the first guess of a backend's reliability counts for."""


def learned(reader: Reader, needs: Mapping[str, VariantNeed]) -> Calibration:
    """What the newest runs on record teach; nothing is read where there is no need to correct."""
    return Calibration([observed(row) for row in newest_observations(reader, _LOOKED_AT)] if needs else [])


def calibrated(
    learned: Calibration, name: str, digest: str, needs: Mapping[str, VariantNeed]
) -> dict[str, VariantNeed]:
    """``needs`` of the job ``name``, by variant, as what was learned corrects them."""
    return {
        variant: learned.of(need, Subject(name, variant, config=digest, family=family_of(need)))
        for variant, need in needs.items()
    }


def reliability(reader: Reader) -> dict[str, float]:
    """The chance that a backend holds, by those of the newest attempts that it did not fail, around its first guess."""
    ends: defaultdict[str, list[bool]] = defaultdict(list)
    for backend, outcome in newest_ends(reader, _LOOKED_AT):
        ends[backend].append(outcome not in _FAILED_BY_BACKEND)
    return {
        backend: (sum(held) + _GUESS_WEIGHT * provider(backend).holds) / (len(held) + _GUESS_WEIGHT)
        for backend, held in ends.items()
    }


def family_of(need: VariantNeed) -> str:
    """What the prediction took the job for."""
    return next((kind.source for kind in (need.vram, need.ram) if kind), "")


def observed(row: Recorded) -> Observed:
    """A recorded observation as the calibration takes it."""
    return Observed(
        Subject(row.name, row.variant, row.spec_digest, row.family, _model(row), _stack(row)),
        vram=_measured(row, row.peak_vram_bytes, row.vram_above_bytes, row.predicted_vram_bytes),
        ram=_measured(row, row.peak_ram_bytes, row.ram_above_bytes, row.predicted_ram_bytes),
    )


def _measured(row: Recorded, peak: int | None, above: int | None, predicted: int | None) -> Measured | None:
    """A run that was out of this memory tells a lower bound; a peak counts only of a run that went through."""
    if above:
        return Measured(max(above, peak or 0), predicted, censored=True)
    return Measured(peak, predicted) if peak and row.outcome == "succeeded" else None


def _model(row: Recorded) -> str:
    """The GPU's name in the table of GPUs: drivers and providers write the same model differently."""
    if not row.gpu:
        return ""
    facts = bundled_gpus().find(row.gpu, row.vram_capacity_bytes)
    return facts.name if facts else row.gpu


def _stack(row: Recorded) -> str:
    torch = json.loads(row.versions).get("torch", "")
    return f"torch {'.'.join(torch.split('.')[:2])}" if torch else ""
