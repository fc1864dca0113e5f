"""The phases of a diffusion model: sums of parts whose activations were traced, on top of nothing that was measured."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.catalog.diffusion import Diffusion
from orchestrator.planning.memory.phases import Phase
from orchestrator.planning.memory.recipe import Recipe

ADAPTER_SHARE = 0.0003
"""Adapter weights per rank and weight of the denoiser: 0.0001 (FLUX.1) to 0.0006 (SDXL) on its attention."""
WIDTH = {"fp32": 2.0, "amp-fp16": 1.3, "amp-bf16": 1.3}
"""Activations in other precisions than 16 bit, relative to it."""
GUIDANCE = 2
"""Images with and without the text go through the denoiser at once."""
LAST_BLOCKS = 1 / 8
"""Share of the activations that lives when all gradients exist."""
NOTE = (
    "a diffusion model is a sum of parts that nobody measured together; in training large text encoders (T5, Qwen) are "
    "taken to encode the prompts first and to leave the GPU, small ones and the autoencoder to stay"
)


def diffusion_phases(recipe: Recipe, parts: Diffusion) -> Iterator[Phase]:
    """A training step of the denoiser, or a pipeline that generates images."""
    area = ((recipe.model.image_size or parts.pixels) / parts.pixels) ** 2
    images = recipe.model.batch_size * area * WIDTH.get(recipe.model.precision, 1.0)
    reads = recipe.model.task == "infer" or parts.text_in_training
    text = 2 * parts.text_params if reads else 0
    lasting = {"weights": recipe.weights(), "text encoder": text, "autoencoder": 2 * parts.vae_params}
    yield Phase("load", lasting)
    if recipe.model.task == "train":
        yield from _training(recipe, parts, lasting, images)
        return
    yield Phase("denoise", {**lasting, "activations": round(GUIDANCE * images * parts.denoise_bytes)})
    yield Phase("decode images", {**lasting, "activations": round(images * parts.decode_bytes)})


def _training(recipe: Recipe, parts: Diffusion, lasting: dict[str, int], images: float) -> Iterator[Phase]:
    """Forward, the end of the backward pass, and the optimizer's step."""
    trained = parts.denoiser_params
    if recipe.adapters:
        trained = round(parts.denoiser_params * ADAPTER_SHARE * recipe.model.lora.rank)
        lasting = {**lasting, "adapters": trained * recipe.trained_bytes}
    lasting = {**lasting, "optimizer states": recipe.states_of(trained)}
    each = parts.checkpointed_bytes if recipe.model.gradient_checkpointing else parts.train_bytes
    gradients = {"gradients": trained * recipe.trained_bytes}
    kept = gradients if recipe.model.grad_accumulation > 1 else {}
    yield Phase("forward+loss", {**lasting, **kept, "activations": round(images * each)})
    yield Phase("backward", {**lasting, **gradients, "activations": round(images * each * LAST_BLOCKS)})
    copy = gradients["gradients"] if recipe.model.optimizer == "adamw" else 0
    yield Phase("optimizer step", {**lasting, **gradients, "optimizer's copy": copy})
