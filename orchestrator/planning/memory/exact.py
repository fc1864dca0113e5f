"""Exact mode: what is asked of a trace on fake tensors, and the estimate that follows from its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.planning.memory.device import context_bytes
from orchestrator.planning.memory.estimate import CONTEXT_TERM, SLACK_TERM, MemoryEstimate, Subject

RAM_BYTES = 3 << 30
"""What a trace may take; 0.4 GB is usual."""

IMAGE_SIZE, LABELS = 224, 1000


@dataclass(frozen=True, slots=True)
class Traced:
    """A trace's answer, as ``backends/runner/tracing`` gives it; sizes in bytes.

    ``reserved_bytes`` is what torch's allocator holds with memory to spare, ``needed_bytes`` what it must have.
    """

    allocated_bytes: int
    reserved_bytes: int
    needed_bytes: int
    phase: str
    terms: Mapping[str, int]
    parameters: int
    seconds: float
    torch: str
    transformers: str


def trace_request(subject: Subject, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the tracer is asked, as plain JSON; ``config`` is the config.json that the spec names, if it does."""
    recipe = subject.recipe
    dropout = recipe.model.dropout
    return {
        "name": recipe.model.hf or recipe.arch.name or recipe.arch.model_type or "the model",
        "model": recipe.model.model_dump(mode="json"),
        "config": dict(config) if config else None,
        "shape": None if config else _shape(subject),
        "dropout": recipe.arch.dropout if dropout is None else dropout,
        "unsupported": why_not(subject, config),
        "ram_bytes": RAM_BYTES,
    }


def _shape(subject: Subject) -> dict[str, Any]:
    arch = subject.recipe.arch
    return {
        "type": arch.model_type,
        **{name: getattr(arch, name) for name in _SIZES},
        "image_size": subject.recipe.model.image_size or IMAGE_SIZE,
        "labels": LABELS,
    }


_SIZES = ("layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "tied")


def why_not(subject: Subject, config: Mapping[str, Any] | None) -> str:
    """Why there is nothing to trace, as the end of a sentence; empty if there is."""
    model, arch = subject.recipe.model, subject.recipe.arch
    reasons = {
        "it uses no GPU, and a trace tells VRAM": not subject.on_gpu,
        "measured batches of your own code say more than a trace": model.probe,
        "nets of convolutions are not traced": subject.cnn,
        "only the number of parameters is known; name its config.json": not subject.known,
        "a model of several parts is not traced": arch.parts or "vision_config" in (config or {}),
        "a mixture of experts is traced from its config.json only; name it": arch.experts > 1 and not config,
        f"the kernels of weights quantised to {model.quantization} cannot be traced": model.quantization != "none",
        "training that is sharded or offloaded is not traced": subject.recipe.sharding or subject.recipe.offloads,
        "a loss in chunks is not traced": model.chunked_loss,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def traced_estimate(subject: Subject, estimate: MemoryEstimate, traced: Traced) -> MemoryEstimate:
    """``estimate`` with its VRAM as traced. Host RAM stays as computed; the family is known, whichever it is."""
    context = context_bytes(subject.recipe)
    slack = traced.reserved_bytes - traced.allocated_bytes
    terms = {**traced.terms, SLACK_TERM: slack, CONTEXT_TERM: context}
    return replace(
        estimate,
        vram_bytes=traced.reserved_bytes + context,
        needed_bytes=traced.needed_bytes + context,
        allocated_bytes=traced.allocated_bytes,
        reserved_bytes=traced.reserved_bytes,
        phase=traced.phase,
        vram_terms={name: size for name, size in terms.items() if size},
        confidence="high",
        notes=tuple(note for note in estimate.notes if "upper envelope" not in note),
    )
