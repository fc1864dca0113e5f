"""The phases of inference: transformers with a KV cache, and llama.cpp as Ollama runs it."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.planning.memory.phases import Phase
from orchestrator.planning.memory.recipe import BITSANDBYTES, Recipe, dequantised_bytes

GRAPH_BATCH = 512
"""Tokens that llama.cpp takes through the network at once."""


def inference_phases(recipe: Recipe) -> Iterator[Phase]:
    """Loading, reading the prompt, and generating; an image model or an encoder only runs forward."""
    if recipe.model.quantization.startswith("gguf"):
        yield _gguf(recipe)
        return
    yield _load(recipe)
    if recipe.encoder:
        yield _encode(recipe, "encoder", recipe.encoder)
    yield _prefill(recipe)
    for part in recipe.arch.parts:
        yield _encode(recipe, part.name or part.model_type, Recipe(recipe.model, part, recipe.families))


def kv_cache_bytes(recipe: Recipe) -> int:
    """Keys and values of every token of every sequence, also of those that an encoder read; an encoder has none."""
    if recipe.arch.vocab <= 1 or recipe.arch.is_vision:
        return 0
    sizes = recipe.sizes()
    tokens = ((recipe.model.kv_cache_tokens or sizes.seq) + sizes.source) * sizes.batch
    return 2 * recipe.arch.layers * recipe.arch.kv * tokens * cache_element_bytes(recipe)


def cache_element_bytes(recipe: Recipe) -> int:
    """Bytes of an element of the cache."""
    return 4 if recipe.model.precision == "fp32" and not recipe.model.quantization.startswith("gguf") else 2


def _load(recipe: Recipe) -> Phase:
    weights = recipe.weights()
    bitsandbytes = recipe.model.quantization in BITSANDBYTES
    sources = max(2 * recipe.arch.params - weights, 0) if bitsandbytes and recipe.model.transformers >= 5 else 0
    return Phase("load", _present({"weights": weights, "unquantised weights": sources}))


def _prefill(recipe: Recipe) -> Phase:
    """transformers 5 keeps only the last token's logits, 4 those of all."""
    sizes = recipe.sizes()
    block = recipe.families.find(recipe.arch.model_type, (_precision(recipe), recipe.mode()[1], "none"))
    row = block or recipe.families.largest((_precision(recipe), "sdpa", "none"), sizes)
    every = recipe.model.transformers < 5 or recipe.arch.vocab <= 1
    words = (recipe.model.seq_len if every else 1) * recipe.model.batch_size
    return Phase(
        "generate",
        _present(
            {
                "weights": recipe.weights(),
                "KV cache": kv_cache_bytes(recipe),
                "logits": words * recipe.arch.vocab * (4 + recipe.activation_bytes) if recipe.arch.vocab > 1 else 0,
                "forward of a block": row.bytes_of("infer", sizes),
                "dequantised matrix": dequantised_bytes(recipe),
            }
        ),
    )


def _precision(recipe: Recipe) -> str:
    return "fp32" if recipe.model.precision == "fp32" else "bf16"


def _encode(recipe: Recipe, name: str, part: Recipe) -> Phase:
    """A vision part or an encoder at work: the weights of all parts are there."""
    sizes = part.sizes()
    row = part.row()
    return Phase(
        f"encode ({name})", _present({"weights": recipe.weights(), "forward of a block": row.bytes_of("infer", sizes)})
    )


def _gguf(recipe: Recipe) -> Phase:
    """Weights, cache, and the larger of the two graphs: of a block with its attention, and of the vocabulary."""
    arch, model = recipe.arch, recipe.model
    context = model.kv_cache_tokens or model.seq_len
    block = 4 * GRAPH_BATCH * (1 + 4 * arch.hidden + context * (1 + arch.heads))
    words = 4 * GRAPH_BATCH * (arch.hidden + arch.vocab)
    flash = 4 * GRAPH_BATCH * (1 + 4 * arch.hidden)
    graph = max(flash if model.attention == "flash" else block, words)
    return Phase(
        "generate",
        _present({"weights": recipe.weights(), "KV cache": kv_cache_bytes(recipe), "graph buffers": graph}),
    )


def _present(terms: dict[str, int]) -> dict[str, int]:
    return {key: value for key, value in terms.items() if value > 0}
