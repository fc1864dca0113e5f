"""The phases of a run, each a sum of named terms in bytes. The peak is the largest of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from orchestrator.catalog.families import FEATURES
from orchestrator.planning.memory.recipe import BITSANDBYTES, Recipe, dequantised_bytes

MOVING = tuple(name for name in FEATURES if name != "w")

CHUNKED_LOGIT_BYTES = 4.0
"""Bytes per token and word that a loss in chunks still needs: logits and their gradients in 16 bit."""
LOGIT_GRADIENT_BYTES = 2.0
"""Bytes per token and word by which the peak of the loss grows when its backward pass begins."""
COMPILED = 0.8
"""What torch.compile keeps of the activations: it fuses and recomputes cheap steps. Two published pairs: 60.0 to 51.0
GiB in torchtune, 82.4 to 77.0 GiB in torchtitan, which is 5 to 15 % of the whole."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase; ``terms`` in bytes, in the order in which they are shown. Those of size 0 are left out."""

    name: str
    terms: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes allocated at its peak."""
        return sum(self.terms.values())


def training_phases(recipe: Recipe) -> Iterator[Phase]:
    """The phases of one step, the second or any later one: optimizer states exist."""
    yield _phase("load", _loading(recipe))
    yield _phase("forward+loss", _forward(recipe))
    if recipe.amp and recipe.model.gradient_checkpointing and not recipe.adapters:
        yield _phase("forward+loss", _in_autocast(recipe))
    yield _phase("backward, first block", _backward_begins(recipe))
    if recipe.encoder:
        yield _phase("backward, encoder", _encoder_begins(recipe, recipe.encoder))
    yield _phase("backward, last block", _backward_ends(recipe))
    yield _phase("backward, embedding", _embedding(recipe))
    yield _phase("optimizer step", _step(recipe))


def _phase(name: str, terms: Mapping[str, int]) -> Phase:
    return Phase(name, {key: value for key, value in terms.items() if value > 0})


def _loading(recipe: Recipe) -> dict[str, int]:
    """transformers 5 keeps the 16-bit sources until bitsandbytes has quantised them all."""
    whole = recipe.arch.params * 2
    bitsandbytes = recipe.model.quantization in BITSANDBYTES
    weights = recipe.weights()
    sources = max(whole - weights, 0) if bitsandbytes and recipe.model.transformers >= 5 else 0
    return {"weights": weights, "unquantised weights": sources}


def _states(recipe: Recipe) -> dict[str, int]:
    """What lives through the whole step."""
    states = 0 if recipe.offloads else recipe.states()
    weights, gathered = recipe.weights(), 0
    if recipe.sharding == 3:
        # Two blocks and the embedding are whole at a time; the rest lies on the other GPUs or in host RAM.
        gathered = 2 * (2 * recipe.arch.block_params + recipe.arch.embedding_params)
        weights = 0 if recipe.model.offload == "all" else weights // recipe.gpus
    return {
        "weights": weights,
        "gathered weights": gathered,
        "adapters": recipe.trained_params() * 4 if recipe.adapters else 0,
        "optimizer states": states // recipe.gpus if recipe.sharding >= 1 else states,
    }


def _gradients(recipe: Recipe, share: float = 1.0) -> int:
    """Gradients, of which ``share`` exists; those of a sharded or offloading run do not stay."""
    total = recipe.gradients()
    if recipe.offloads:
        total = min(total, 2 * recipe.arch.block_params * recipe.trained_bytes)
    elif recipe.sharding >= 2:
        total //= recipe.gpus
    return round(total * share)


def _kept_gradients(recipe: Recipe) -> int:
    """Gradients that are alive already when a forward pass begins."""
    return _gradients(recipe) if recipe.model.grad_accumulation > 1 else 0


def _saved(recipe: Recipe) -> int:
    """Bytes that one block keeps for its backward pass when nothing is recomputed."""
    moving = recipe.row().bytes_of("saved", recipe.sizes(), MOVING)
    casts = 0 if recipe.adapters else recipe.row().bytes_of("saved", recipe.sizes(), ("w",))
    return moving + casts + _dropout(recipe)


def _dropout(recipe: Recipe) -> int:
    """On CUDA a mask of one byte per element; eager attention also keeps what it dropped from."""
    on = recipe.arch.dropout if recipe.model.dropout is None else recipe.model.dropout
    if not on or recipe.model.task == "infer":
        return 0
    sizes = recipe.sizes()
    eager = 5 * sizes.of("bass") if recipe.mode()[1] == "eager" else 0
    return round(2 * sizes.of("th") + eager)


def _sides(recipe: Recipe) -> tuple[Recipe, ...]:
    """The network, its encoder if it has one, and the parts that see, unless adapters leave these frozen."""
    parts = () if recipe.adapters else tuple(replace(recipe, arch=part) for part in recipe.arch.parts)
    return (recipe, recipe.encoder, *parts) if recipe.encoder else (recipe, *parts)


def _activations(recipe: Recipe, *sides: Recipe) -> dict[str, int]:
    """What all blocks keep at the end of the forward pass; of ``sides`` alone, if any are named."""
    several = sides or _sides(recipe)
    if not recipe.model.gradient_checkpointing:
        kept = COMPILED if recipe.model.compile else 1.0
        return {"activations": round(kept * sum(side.arch.layers * _saved(side) for side in several))}
    inputs = sum(side.arch.layers * round(side.sizes().of("th")) * recipe.activation_bytes for side in several)
    return {"block inputs": 0 if recipe.model.offload == "all" else inputs}


def _forward(recipe: Recipe) -> dict[str, int]:
    row, sizes = recipe.row(), recipe.sizes()
    logits = row.bytes_of("loss", sizes, ("tv",))
    head_logits = row.bytes_of("head", sizes, ("tv",))
    rest, head_rest = (row.bytes_of(name, sizes, ("th", "vh", "t")) for name in ("loss", "head"))
    if recipe.model.head == "classifier":
        logits = head_logits = 0
    elif recipe.model.chunked_loss:
        logits, head_logits = min(logits, round(CHUNKED_LOGIT_BYTES * sizes.of("tv"))), 0
    if head_logits + head_rest > logits + rest:
        logits, rest = head_logits, head_rest
    return {
        **_states(recipe),
        "gradients": _kept_gradients(recipe),
        **_activations(recipe),
        "logits": logits,
        "embedding and head": rest,
    }


def _in_autocast(recipe: Recipe) -> dict[str, int]:
    """Before the context of autocast ends: its 16-bit copies of all matrices live, gradients of logits not yet."""
    terms = _forward(recipe)
    later = min(round(LOGIT_GRADIENT_BYTES * recipe.sizes().of("tv")), terms["logits"])
    return {
        **terms,
        "logits": terms["logits"] - later,
        "autocast's copies": 2 * sum(side.arch.layers * side.arch.block_params for side in _sides(recipe)),
    }


def _block(recipe: Recipe) -> dict[str, int]:
    """What one block needs in its backward pass beside what it keeps."""
    row, sizes = recipe.row(), recipe.sizes()
    return {
        "recomputed block": _saved(recipe) if recipe.model.gradient_checkpointing else 0,
        "backward of a block": row.bytes_of("work", sizes, MOVING),
        "dequantised matrix": dequantised_bytes(recipe),
        "gradients of a block": _whole_gradients(recipe),
    }


def _whole_gradients(recipe: Recipe) -> int:
    """Gradients of two blocks in 16 bit before they are reduced to this GPU's share."""
    whole = recipe.sharding == 3 and not recipe.adapters and not recipe.offloads
    return 2 * 2 * recipe.arch.block_params if whole else 0


def _backward_begins(recipe: Recipe) -> dict[str, int]:
    row, sizes = recipe.row(), recipe.sizes()
    head = 0 if _kept_gradients(recipe) else row.bytes_of("after", sizes, ("vh",))
    own = 0 if recipe.adapters else row.bytes_of("work", sizes, ("w",))
    return {
        **_states(recipe),
        "gradients": _kept_gradients(recipe) or min(head + own, max(recipe.gradients(), 0)),
        **_activations(recipe),
        "embedding and head": row.bytes_of("after", sizes, ("th", "t")),
        **_block(recipe),
    }


def _encoder_begins(recipe: Recipe, encoder: Recipe) -> dict[str, int]:
    """The last block of the encoder: the decoder's gradients exist, its activations are gone."""
    own = encoder.arch.layers * encoder.arch.block_params
    share = 1.0 if recipe.adapters else 1 - min(own / max(recipe.trained_params(), 1), 1)
    return {
        **_states(recipe),
        "gradients": _kept_gradients(recipe) or _gradients(recipe, share),
        **_activations(recipe, encoder),
        "embedding and head": 2 * round(encoder.sizes().of("th")) * recipe.activation_bytes,
        **_block(encoder),
    }


def _backward_ends(recipe: Recipe) -> dict[str, int]:
    """The first block of the model: gradients of all others exist, and nearly all activations are gone."""
    arch, first = recipe.arch, recipe.encoder or recipe
    missing = 0 if arch.tied or recipe.adapters or arch.is_vision else arch.embedding_params
    own = 0 if recipe.adapters else first.row().bytes_of("work", first.sizes(), ("w",))
    total = max(recipe.trained_params(), 1)
    share = 1 - min((missing + (0 if recipe.adapters else first.arch.block_params)) / total, 1)
    keeps = 1 if not recipe.model.gradient_checkpointing else 0
    return {
        **_states(recipe),
        "gradients": _kept_gradients(recipe) or _gradients(recipe, share) + min(own, _gradients(recipe)),
        "activations": keeps * _saved(first),
        "embedding and head": 2 * round(first.sizes().of("th")) * recipe.activation_bytes,
        **_block(first),
    }


def _embedding(recipe: Recipe) -> dict[str, int]:
    """The gradient of a tied embedding comes from both its ends: autograd holds the two and their sum at once."""
    again = 2 * recipe.arch.embedding_params * recipe.trained_bytes if recipe.arch.tied and not recipe.adapters else 0
    return {
        **_states(recipe),
        "gradients": _gradients(recipe),
        "gradient of the embedding": again,
        "embedding and head": round(recipe.sizes().of("th")) * recipe.activation_bytes,
    }


def _step(recipe: Recipe) -> dict[str, int]:
    """AdamW as torch does it by default works on all weights at once, in a copy."""
    copy = recipe.gradients() if recipe.model.optimizer == "adamw" and not recipe.offloads else 0
    return {
        **_states(recipe),
        "gradients": _gradients(recipe),
        "fp32 gradients": _master_gradients(recipe),
        "optimizer's copy": copy // recipe.gpus if recipe.sharding >= 1 else copy,
    }


def _master_gradients(recipe: Recipe) -> int:
    """DeepSpeed steps with an fp32 copy of its share of the gradients; stage 3 frees the 16-bit ones for it."""
    if not recipe.master_bytes or recipe.offloads or not recipe.sharding:
        return 0
    each = 2 if recipe.sharding == 3 else 4
    return recipe.trained_params() * each // recipe.gpus
