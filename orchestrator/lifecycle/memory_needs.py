"""What each variant of a spec takes, by its model section: files are read here, the rest is pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.catalog.diffusion import bundled_diffusion
from orchestrator.catalog.families import bundled_families
from orchestrator.catalog.model_files import hub_counts, kept_counts, read_config, safetensors_counts
from orchestrator.catalog.models import bundled_models
from orchestrator.catalog.places import bundled_cnns
from orchestrator.planning.duration import Workload
from orchestrator.planning.memory.estimate import Subject, estimate_memory
from orchestrator.planning.memory.exact import trace_request
from orchestrator.planning.memory.levers import changed, in_words, levers_of
from orchestrator.planning.memory.subject import Files, Tables, UnknownModelError, in_tables, subject_of
from orchestrator.planning.memory.work import workload_of
from orchestrator.planning.need import VariantNeed
from orchestrator.planning.outlook import Facts
from orchestrator.spec.model import JobSpec
from orchestrator.spec.neural import NeuralModel

_ALL = 20
"""More levers than there are."""


def predicted_facts(spec: JobSpec, cache: Path) -> Facts:
    """Need and work of each variant with a model section; a model that nobody knows leaves a note.

    ``cache`` is where answers of the hub are kept; it is not asked. Raises ModelFileError.
    """
    named = [variant.name for variant in spec.variants if spec.resolved(variant.name).model]
    found = {name: _predicted(spec, name, cache) for name in named}
    return Facts({name: need for name, (need, _) in found.items()}, {name: work for name, (_, work) in found.items()})


def _predicted(spec: JobSpec, variant: str, cache: Path) -> tuple[VariantNeed, Workload]:
    try:
        found = subject(spec, variant, cache)
    except UnknownModelError as error:
        return VariantNeed(None, None, "low", (f"memory is not predicted: {error}",)), Workload()
    assert found is not None
    return estimate_memory(found).as_need(), workload_of(found)


def needs_by_lever(spec: JobSpec, needs: Mapping[str, VariantNeed], cache: Path) -> dict[str, dict[str, VariantNeed]]:
    """``needs`` as they would be after a change of the first variant's model section, by the change in words."""
    first = spec.variants[0].name
    found = subject(spec, first, cache) if first in needs and needs[first].ram else None
    if found is None:
        return {}
    return {
        f"{lever.name} ({in_words(lever.change)})": {
            **needs,
            first: estimate_memory(changed(found, **lever.change)).as_need(),
        }
        for lever in levers_of(found, estimate_memory(found), _ALL)
    }


def subject(
    spec: JobSpec, variant: str, cache: Path, *, ask_hub: bool = False, assume_gpu: bool = False
) -> Subject | None:
    """What to estimate of a variant; None without a model section. Raises ModelFileError, UnknownModelError.

    ``ask_hub`` lets the hub be asked, once: its answer is kept in ``cache``. ``assume_gpu`` takes one GPU where the
    variant asks for none.
    """
    resolved = spec.resolved(variant)
    if resolved.model is None:
        return None
    folder = spec.spec_path.parent if spec.spec_path else Path()
    gpu = resolved.need.gpu
    files = _read(resolved.model, folder, cache, ask_hub=ask_hub)
    return subject_of(resolved.model, files, tables(), gpu.count if gpu else 1, on_gpu=gpu is not None or assume_gpu)


def requests_for_traces(spec: JobSpec, cache: Path) -> dict[str, dict[str, Any]]:
    """What the tracer is asked on the machine, by variant that wants a preflight. Raises ModelFileError."""
    models = {variant.name: spec.resolved(variant.name).model for variant in spec.variants}
    asked = [name for name, model in models.items() if model and model.preflight]
    return {name: request for name in asked if (request := _request(spec, name, cache))}


def _request(spec: JobSpec, variant: str, cache: Path) -> dict[str, Any] | None:
    try:
        found = subject(spec, variant, cache)
    except UnknownModelError:
        return None
    return trace_request(found, config_of(spec, variant)) if found else None


def config_of(spec: JobSpec, variant: str) -> Mapping[str, Any] | None:
    """The config.json that a variant's model section names; None if it names none. Raises ModelFileError."""
    model = spec.resolved(variant).model
    folder = spec.spec_path.parent if spec.spec_path else Path()
    return read_config(folder / model.config) if model and model.config else None


def tables() -> Tables:
    """The facts that come with the program."""
    return Tables(bundled_models(), bundled_families(), bundled_cnns(), bundled_diffusion())


def _read(model: NeuralModel, folder: Path, cache: Path, *, ask_hub: bool) -> Files:
    config = read_config(folder / model.config) if model.config else None
    counts = safetensors_counts(folder / model.weights) if model.weights else None
    if counts is None and model.hf and not in_tables(model, tables()):
        counts = kept_counts(model.hf, cache) or (hub_counts(model.hf, cache) if ask_hub else None)
    return Files(config, counts)
