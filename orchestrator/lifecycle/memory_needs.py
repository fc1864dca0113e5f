"""The memory that each variant of a spec takes, by its model section: files are read here, the rest is pure."""

from __future__ import annotations

from pathlib import Path

from orchestrator.catalog.architecture import bundled_models
from orchestrator.catalog.families import bundled_families
from orchestrator.catalog.model_files import hub_counts, read_config, safetensors_counts
from orchestrator.catalog.places import bundled_cnns
from orchestrator.planning.memory.estimate import Subject, estimate_memory
from orchestrator.planning.memory.subject import Files, Tables, subject_of
from orchestrator.planning.need import VariantNeed
from orchestrator.spec.model import JobSpec
from orchestrator.spec.neural import NeuralModel


def variant_needs(spec: JobSpec) -> dict[str, VariantNeed]:
    """What each variant with a model section takes, by its name. Raises ModelFileError, UnknownModelError."""
    subjects = {variant.name: subject(spec, variant.name) for variant in spec.variants}
    return {name: estimate_memory(found).as_need() for name, found in subjects.items() if found}


def subject(spec: JobSpec, variant: str, cache: Path | None = None, *, assume_gpu: bool = False) -> Subject | None:
    """What to estimate of a variant; None without a model section.

    With a ``cache`` the hub may be asked, once. ``assume_gpu`` takes one GPU where the variant asks for none.
    """
    resolved = spec.resolved(variant)
    if resolved.model is None:
        return None
    folder = spec.spec_path.parent if spec.spec_path else Path()
    gpu = resolved.need.gpu
    files = _read(resolved.model, folder, cache)
    return subject_of(resolved.model, files, tables(), gpu.count if gpu else 1, on_gpu=gpu is not None or assume_gpu)


def tables() -> Tables:
    """The facts that come with the program."""
    return Tables(bundled_models(), bundled_families(), bundled_cnns())


def _read(model: NeuralModel, folder: Path, cache: Path | None) -> Files:
    config = read_config(folder / model.config) if model.config else None
    counts = safetensors_counts(folder / model.weights) if model.weights else None
    if counts is None and cache and model.hf and bundled_models().find(model.hf) is None:
        counts = hub_counts(model.hf, cache)
    return Files(config, counts)
