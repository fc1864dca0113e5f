"""What the tests of memory share: an estimate from a few words."""

from __future__ import annotations

import csv
from pathlib import Path

from orchestrator.lifecycle.memory_needs import tables
from orchestrator.planning.memory.estimate import MemoryEstimate, Subject, estimate_memory
from orchestrator.planning.memory.subject import Files, subject_of
from orchestrator.spec.neural import NeuralModel

DATA = Path(__file__).parents[2] / "data"
GB = 10**9


def subject(*, gpus: int = 1, on_gpu: bool = True, files: Files | None = None, **model) -> Subject:
    return subject_of(NeuralModel(**model), files or Files(), tables(), gpus, on_gpu=on_gpu)


def estimate(**words) -> MemoryEstimate:
    return estimate_memory(subject(**words))


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
