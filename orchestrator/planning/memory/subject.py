"""From a model section to what is estimated: config, written shape, safetensors header, table, or a bare count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.catalog.architecture import VISION, WITH_DROPOUT, Architecture, from_config
from orchestrator.catalog.diffusion import Diffusion, find_diffusion
from orchestrator.catalog.families import FamilyTable
from orchestrator.catalog.models import ModelTable
from orchestrator.catalog.places import Cnn
from orchestrator.planning.memory.estimate import Subject
from orchestrator.planning.memory.recipe import Recipe
from orchestrator.spec.neural import Arch, NeuralModel

TYPICAL = (
    (30e6, 6, 384), (80e6, 8, 512), (200e6, 12, 768), (600e6, 24, 1024), (2e9, 24, 2048), (5e9, 28, 3072),
    (10e9, 32, 4096), (20e9, 40, 5120), (50e9, 48, 8192), (float("inf"), 80, 8192),
)  # fmt: skip
"""Up to how many parameters: layers and width that such a transformer usually has."""
TYPICAL_VOCABULARY = 50_304


class UnknownModelError(Exception):
    """Nothing says what the model is. The message says what to write."""


@dataclass(frozen=True, slots=True)
class Files:
    """What was read for a model section: the config.json, and elements by dtype in a safetensors header."""

    config: Mapping[str, Any] | None = None
    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Tables:
    """The facts that an estimate rests on."""

    models: ModelTable
    families: FamilyTable
    cnns: Mapping[str, Cnn]
    diffusion: Mapping[str, Diffusion]


def subject_of(model: NeuralModel, files: Files, tables: Tables, gpus: int = 1, *, on_gpu: bool = True) -> Subject:
    """What to estimate. Raises UnknownModelError."""
    if cnn := _cnn(model, tables):
        arch = Architecture("resnet", 0, 0, 0, 1, 1, 0, 1, tied=False, params=cnn.params, dtype="fp32")
        return Subject(Recipe(model, arch, tables.families, gpus), cnn, on_gpu)
    if parts := find_diffusion(model.hf or "", tables.diffusion):
        arch = Architecture("diffusion", 0, 0, 0, 1, 1, 0, 1, tied=False, params=parts.denoiser_params)
        return Subject(Recipe(model, arch, tables.families, gpus), None, on_gpu, diffusion=parts)
    arch, known = _architecture(model, files, tables)
    if files.counts:
        arch = replace(arch, params=sum(files.counts.values()))
    if model.tied is not None:
        arch = _with_embeddings(arch, tied=model.tied)
    return Subject(Recipe(model, arch, tables.families, gpus), None, on_gpu, known)


def in_tables(model: NeuralModel, tables: Tables) -> bool:
    """Whether the model's name is in a table: then nothing else need be asked."""
    name = model.hf or ""
    return bool(tables.models.find(name) or _cnn(model, tables) or find_diffusion(name, tables.diffusion))


def _cnn(model: NeuralModel, tables: Tables) -> Cnn | None:
    name = (model.hf or "").lower().rpartition("/")[2].replace("resnet-", "resnet")
    return next((cnn for key, cnn in tables.cnns.items() if name == key or name.startswith(f"{key}-")), None)


def _architecture(model: NeuralModel, files: Files, tables: Tables) -> tuple[Architecture, bool]:
    """The architecture, and whether its shape is known."""
    if files.config is not None:
        try:
            return from_config(files.config), True
        except ValueError as error:
            raise UnknownModelError(str(error)) from None
    if model.arch:
        return _written(model.arch, model.params), True
    found = tables.models.find(model.hf) if model.hf else None
    if found:
        return found, True
    count = model.params or sum((files.counts or {}).values())
    if model.probe and not count:
        count = 1000
    if not count:
        raise UnknownModelError(_advice(model))
    return typical(count), False


def _with_embeddings(arch: Architecture, *, tied: bool) -> Architecture:
    """The same with one embedding or two, whatever the model came with."""
    more = (arch.tied - tied) * arch.embedding_params
    return replace(arch, tied=tied, params=arch.params + more)


def _advice(model: NeuralModel) -> str:
    ways = "add config: path/to/config.json, arch: {type, layers, hidden, ffn, heads, vocab}, or params: 1.4B"
    if model.hf:
        return f"{model.hf} is not in the bundled table, and its config.json is not at hand; {ways}"
    return f"the model section says not what the model is; add hf: owner/name, or {ways}"


def typical(params: int) -> Architecture:
    """A shape that a transformer of so many parameters usually has."""
    layers, hidden = next((layers, hidden) for most, layers, hidden in TYPICAL if params <= most)
    return Architecture(
        "", layers, hidden, 4 * hidden, hidden // 64, hidden // 64, 64, TYPICAL_VOCABULARY, tied=True, params=params
    )


def _written(arch: Arch, params: int | None) -> Architecture:
    return Architecture(
        model_type=arch.type,
        layers=arch.layers,
        hidden=arch.hidden,
        ffn=arch.ffn,
        heads=arch.heads,
        kv_heads=arch.kv_heads or arch.heads,
        head_dim=arch.head_dim or max(arch.hidden // arch.heads, 1),
        vocab=1 if arch.type in VISION else arch.vocab,
        tied=arch.tied,
        params=params or 0,
        experts=arch.experts or 1,
        active_experts=arch.active_experts or 1,
        expert_ffn=arch.expert_ffn or arch.ffn,
        dropout=arch.type in WITH_DROPOUT,
    ).counted()
