"""What would lower the peak, each recomputed; and the largest batch and sequence that a capacity takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.planning.memory.estimate import MemoryEstimate, Subject, estimate_memory
from orchestrator.planning.memory.recipe import BYTES, WHISPER_TARGET
from orchestrator.spec.neural import NeuralModel

LEAST_SAVING = 0.02
"""A lever that saves less is not worth a change."""
MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Lever:
    """A change of the model section, and the peak of ``memory``, vram or ram, after it in bytes."""

    name: str
    memory: str
    change: dict[str, Any]
    peak_bytes: int
    saved_bytes: int


def changed(subject: Subject, **change: Any) -> Subject:
    """The same with other settings."""
    return replace(subject, recipe=replace(subject.recipe, model=subject.recipe.model.model_copy(update=change)))


def in_words(change: Mapping[str, Any]) -> str:
    """The change as it is written in a spec."""
    return ", ".join(f"{key}: {str(value).lower()}" for key, value in change.items())


def levers_of(subject: Subject, estimate: MemoryEstimate, count: int = 3) -> list[Lever]:
    """The strongest levers, and the one that lowers host RAM if there is one."""
    ram = ram_lever(subject, estimate)
    return [*strongest_levers(subject, estimate, count), *([ram] if ram else [])]


def strongest_levers(subject: Subject, estimate: MemoryEstimate, count: int = 3) -> list[Lever]:
    """The strongest single changes that keep the task what it is, strongest first."""
    before = _peak(estimate)
    found = []
    for name, change in _changes(subject):
        after = _peak(estimate_memory(changed(subject, **change)))
        if after < before * (1 - LEAST_SAVING):
            found.append(Lever(name, "vram" if subject.on_gpu else "ram", change, after, before - after))
    return sorted(found, key=lambda lever: lever.peak_bytes)[:count]


def ram_lever(subject: Subject, estimate: MemoryEstimate) -> Lever | None:
    """The one argument that loads the weights as the file has them, if that saves host RAM."""
    if not subject.on_gpu or subject.recipe.model.probe:
        return None
    best = estimate_memory(changed(subject, load_dtype="auto")).ram_bytes
    if best >= estimate.ram_bytes or subject.recipe.weight_bytes == BYTES["fp32"]:
        return None
    change = {"load_dtype": "auto"}
    return Lever("load in the dtype of the file", "ram", change, best, estimate.ram_bytes - best)


def _peak(estimate: MemoryEstimate) -> int:
    return estimate.vram_bytes or estimate.ram_bytes


def _changes(subject: Subject) -> Iterator[tuple[str, dict[str, Any]]]:
    model = subject.recipe.model
    if model.batch_size > 1:
        half = model.batch_size // 2
        more = {"grad_accumulation": model.grad_accumulation * 2} if model.task == "train" else {}
        yield f"batch of {half}", {"batch_size": half, **more}
    if model.task == "infer":
        yield from _inference_changes(subject)
    elif subject.reads_text or subject.diffusion:
        yield from _training_changes(model)


def _inference_changes(subject: Subject) -> Iterator[tuple[str, dict[str, Any]]]:
    model = subject.recipe.model
    if model.precision == "fp32":
        yield "16-bit weights", {"precision": "fp16"}
    if model.quantization == "none" and subject.reads_text:
        yield "8-bit weights", {"quantization": "int8"}
        yield "4-bit weights", {"quantization": "nf4", "transformers": 4}
    if (model.kv_cache_tokens or model.seq_len) > 1024:
        tokens = (model.kv_cache_tokens or model.seq_len) // 2
        yield "half the context", {"kv_cache_tokens": tokens, "seq_len": min(model.seq_len, tokens)}


def _training_changes(model: NeuralModel) -> Iterator[tuple[str, dict[str, Any]]]:
    if not model.gradient_checkpointing:
        yield "gradient checkpointing", {"gradient_checkpointing": True}
    if not model.chunked_loss and model.head == "lm":
        yield "loss in chunks", {"chunked_loss": True}
    if model.attention == "eager":
        yield "sdpa attention", {"attention": "sdpa"}
    if model.lengths == "dynamic":
        yield "fixed lengths", {"lengths": "fixed"}
    if model.optimizer == "adamw":
        yield "fused AdamW", {"optimizer": "adamw-fused"}
    if model.optimizer in ("adamw", "adamw-fused", "paged-adamw-32bit") and model.method == "full":
        yield "8-bit AdamW", {"optimizer": "adamw-8bit"}
    if model.precision.startswith("amp") or model.precision == "fp32":
        yield "pure 16 bit", {"precision": "bf16"}
    if model.method == "full":
        yield "LoRA", {"method": "lora"}
    if model.method == "lora":
        yield "QLoRA", {"method": "qlora", "quantization": "nf4", "transformers": 4}


def largest_batch(subject: Subject, capacity_bytes: int) -> int:
    """The largest batch whose 95 % bound fits; 0 if none does."""
    return _largest(lambda size: _fits(changed(subject, batch_size=size), capacity_bytes), 4096)


def largest_sequence(subject: Subject, capacity_bytes: int) -> int:
    """The longest sequence whose 95 % bound fits at the given batch; 0 if none does."""
    most = WHISPER_TARGET if subject.recipe.arch.model_type == "whisper" else MOST
    return _largest(lambda size: _fits(changed(subject, seq_len=size), capacity_bytes), most)


def _fits(subject: Subject, capacity_bytes: int) -> bool:
    estimate = estimate_memory(subject)
    return (estimate.needed_bytes or estimate.ram_bytes) * math.exp(1.645 * estimate.sigma) <= capacity_bytes


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """By bisection: what fits, fits when smaller."""
    if not fits(1):
        return 0
    low, high = 1, 2
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
