"""From allocated to what a GPU must have: the caching allocator's slack, the CUDA context, communication buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.planning.memory.recipe import Recipe

LASTING = frozenset(
    ("weights", "unquantised weights", "adapters", "optimizer states", "gradients", "fp32 gradients", "KV cache",
     "optimizer's copy", "text encoder", "autoencoder")
)  # fmt: skip
"""Allocated once, in equal blocks: the allocator finds each its place."""

SLACK = {
    ("fixed", 4): {"logits": 1.02, "": 1.05},
    ("fixed", 5): {"logits": 1.02, "": 1.05},
    ("dynamic", 4): {"logits": 3.2, "": 1.15},
    ("dynamic", 5): {"logits": 1.25, "": 1.05},
}
"""Reserved over allocated of what comes and goes, by lengths and major version of transformers. Logits are few huge
blocks, and one of a new length fits into no old gap. Both rows of "dynamic" are read off measurements: 4 off ms-swift,
where Qwen of three sizes agrees on 40 bytes per token and word, of which the loss itself is 12; 5 off PEFT. Why 4 is so
much more is not proven: its trainer also holds logits in both precisions and shifted."""
LASTING_SLACK = 1.01
"""Blocks are rounded up to 512 bytes and 2 MiB."""

CONTEXT_BYTES = 450_000_000
"""CUDA context, cuBLAS and kernels of a transformer with lazy loading, CUDA 11.7 and later."""
NCCL_BYTES = 500_000_000
"""Buffers of one NCCL communicator."""
CNN_SLACK = 1.127
CNN_CONTEXT_BYTES = 2_034_000_000
"""cuDNN workspaces and context: the robust affine fit over 1,001 timm models."""


def reserved_bytes(terms: Mapping[str, int], lengths: str, transformers: int = 5) -> int:
    """What torch's allocator holds when ``terms`` are allocated: ``max_memory_reserved``."""
    slack = SLACK[lengths, transformers]
    return round(
        sum(size * (LASTING_SLACK if name in LASTING else slack.get(name, slack[""])) for name, size in terms.items())
    )


def context_bytes(recipe: Recipe) -> int:
    """What the process takes on the GPU before its first tensor, and for communication."""
    if recipe.arch.model_type in CNNS:
        return CNN_CONTEXT_BYTES
    return CONTEXT_BYTES + (NCCL_BYTES if recipe.gpus > 1 else 0)


def needed_bytes(recipe: Recipe, terms: Mapping[str, int]) -> int:
    """What the GPU must have at least.

    Before torch gives up it returns cached blocks that nobody uses: what old stacks hoard beyond today's slack is
    seen on the device, and is not needed.
    """
    return device_bytes(replace(recipe, model=recipe.model.model_copy(update={"transformers": 5})), terms)


def device_bytes(recipe: Recipe, terms: Mapping[str, int]) -> int:
    """What ``nvidia-smi`` shows for the process."""
    if recipe.arch.model_type in CNNS:
        return round(sum(terms.values()) * CNN_SLACK) + context_bytes(recipe)
    if recipe.model.quantization.startswith("gguf"):
        return sum(terms.values()) + context_bytes(recipe)
    return reserved_bytes(terms, recipe.model.lengths, recipe.model.transformers) + context_bytes(recipe)


CNNS = frozenset(["resnet", "convnext"])
