"""Host RAM: what loading takes by the dtype rule, what data loader and offloading add, or all of it where no GPU is."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.planning.memory.recipe import BYTES, Recipe

TORCH_BYTES = 160_000_000
TRANSFORMERS_BYTES = 160_000_000
CUDA_BYTES = 650_000_000
"""Anonymous memory of the imports, and of the CUDA runtime: 0.1 GB to 1.7 GB have been seen."""
WORKER_BYTES = 185_000_000
"""One worker process of a data loader, started by spawn; forked ones begin at 50 MB and grow as they touch data."""
TOKEN_BYTES = 16
EXAMPLE_BYTES = 1800
"""A tokenised example: ids and mask as 64-bit integers, and its Python objects."""
OFFLOAD_FACTOR = 1.5
"""DeepSpeed's own factor for buffers of what it offloads."""


def loading_dtype(recipe: Recipe) -> str:
    """What ``from_pretrained`` makes of the file: transformers 4 takes fp32 unless told otherwise, 5 the file's own.

    A run that keeps its weights in fp32 asks for that.
    """
    wanted, kept = recipe.model.load_dtype, file_dtype(recipe)
    if wanted == "default":
        return "fp32" if recipe.model.transformers < 5 or recipe.weight_bytes == BYTES["fp32"] else kept
    return kept if wanted == "auto" else wanted


def file_dtype(recipe: Recipe) -> str:
    """What the file with the weights holds."""
    return recipe.model.file_dtype or recipe.arch.dtype


def host_terms(recipe: Recipe, on_cpu: Mapping[str, int] | None = None) -> dict[str, int]:
    """Named terms of anonymous memory at its peak; ``on_cpu`` are the terms of the run itself where no GPU is used."""
    terms = {
        "imports": TORCH_BYTES + (0 if _plain(recipe) else TRANSFORMERS_BYTES),
        "CUDA runtime": 0 if on_cpu is not None else CUDA_BYTES,
        "weights being loaded": 0 if on_cpu is not None else _loading(recipe),
        **(on_cpu or {}),
        "data loader workers": recipe.model.workers * WORKER_BYTES,
        "dataset": recipe.model.dataset_examples * (recipe.model.seq_len * TOKEN_BYTES + EXAMPLE_BYTES),
        "offloaded states": _offloaded(recipe),
    }
    return {name: size for name, size in terms.items() if size > 0}


def _plain(recipe: Recipe) -> bool:
    """Whether the program runs without transformers."""
    return recipe.arch.model_type in ("resnet", "cnn", "") or recipe.model.quantization.startswith("gguf")


def _loading(recipe: Recipe) -> int:
    """Tensors in the file's own dtype stay mapped from it; all others are made anew, and a pickle is read whole."""
    model, count = recipe.model, recipe.arch.params
    if model.quantization != "none":
        return 0
    target = loading_dtype(recipe)
    read = count * BYTES[file_dtype(recipe)] if model.file_format == "pickle" else 0
    return read + (0 if target == file_dtype(recipe) else count * BYTES[target])


def _offloaded(recipe: Recipe) -> int:
    """Optimizer states with fp32 weights and gradients; with everything offloaded the 16-bit weights too."""
    if not recipe.offloads:
        return 0
    each = 16 + (2 if recipe.model.offload == "all" else 0)
    frozen = recipe.weights() if recipe.model.offload == "all" and recipe.adapters else 0
    return round(recipe.trained_params() * each * OFFLOAD_FACTOR) + frozen
