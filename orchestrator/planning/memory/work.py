"""What a model section says of time: arithmetic of the whole run, what bounds it, and how much is downloaded."""

from __future__ import annotations

from orchestrator.planning.duration import Workload
from orchestrator.planning.memory import host
from orchestrator.planning.memory.estimate import Subject
from orchestrator.planning.memory.recipe import BYTES, Recipe, tokens_of
from orchestrator.planning.speeds import Bound


def workload_of(subject: Subject) -> Workload:
    """The work of one job. FLOP are known for transformers whose section names ``steps``."""
    recipe = subject.recipe
    if recipe.model.probe:
        return Workload()
    return Workload(_bound(recipe), _flops(subject), _download(recipe))


def _bound(recipe: Recipe) -> Bound:
    """Generating reads every weight for each token; training and encoding compute."""
    generates = recipe.model.task == "infer" and recipe.model.head == "lm" and not recipe.arch.is_vision
    return "memory" if generates else "compute"


def _flops(subject: Subject) -> float | None:
    """Two per weight and token forward, as many for gradients of activations, as many for those of weights.

    Checkpointing goes forward twice.
    """
    recipe, model = subject.recipe, subject.recipe.model
    if not subject.reads_text or model.steps is None:
        return None
    passes = 1.0
    if model.task == "train":
        passes = (2.0 if recipe.adapters else 3.0) + model.gradient_checkpointing
    tokens = model.batch_size * _tokens(recipe) * model.grad_accumulation * model.steps
    return 2.0 * recipe.arch.active_params * tokens * passes * recipe.gpus


def _tokens(recipe: Recipe) -> float:
    """Tokens of a sequence; about half of an encoder-decoder's weights see those of each side."""
    own = tokens_of(recipe.model, recipe.arch)
    return (own + recipe.sizes().source) / 2 if recipe.encoder else own


def _download(recipe: Recipe) -> int:
    """Bytes of the weights on the hub."""
    if not recipe.model.hf:
        return 0
    return recipe.model.file_size or recipe.arch.params * BYTES[host.file_dtype(recipe)]
