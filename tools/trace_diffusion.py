"""Regenerate orchestrator/catalog/diffusion.csv: parts of diffusion models, and bytes that each image adds in 16 bit.

    .venv-exact/bin/pip install diffusers
    .venv-exact/bin/python tools/trace_diffusion.py orchestrator/catalog/diffusion.csv

Denoisers and decoders are diffusers' own code in the shape of the model's config; parameters of text encoders are those
that their models have. Nothing is loaded.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from backends.runner.tracing.tracker import Tracker

CLIP_L, CLIP_BIG_G, OPEN_CLIP_H, T5_XXL, QWEN3_4B = 123_060_480, 694_659_840, 340_387_840, 4_762_310_656, 4_022_468_096
"""Parameters of text encoders."""

Call = Callable[[nn.Module, int], torch.Tensor]
BF16 = torch.bfloat16


@dataclass(frozen=True, slots=True)
class Model:
    """A denoiser of ``pixels``, with what it is told the text by.

    ``text_in_training``: whether diffusers' scripts keep that on the GPU in training. Of the large ones they encode the
    prompts first, and delete it.
    """

    make: Callable[[], nn.Module]
    call: Call
    pixels: int
    text_params: int
    latents: int
    text_in_training: bool = True


def unet(pixels: int, width: int, *, sdxl: bool = False) -> Call:
    """A UNet called with 77 tokens of text."""

    def call(model: nn.Module, batch: int) -> torch.Tensor:
        more = {"text_embeds": zeros(batch, 1280), "time_ids": zeros(batch, 6)} if sdxl else {}
        side = pixels // 8
        out = model(zeros(batch, 4, side, side), zeros(batch), zeros(batch, 77, width),
                    **({"added_cond_kwargs": more} if more else {}))  # fmt: skip
        return out.sample

    return call


def sd3(model: nn.Module, batch: int) -> torch.Tensor:
    """154 tokens of CLIP and T5."""
    return model(zeros(batch, 16, 128, 128), zeros(batch, 154, 4096), zeros(batch, 2048), zeros(batch)).sample


def flux(pixels: int, channels: int, width: int, axes: int, *, pooled: bool) -> Call:
    """512 tokens of text; a token for each square of 16 x 16 pixels."""

    def call(model: nn.Module, batch: int) -> torch.Tensor:
        tokens = (pixels // 16) ** 2
        more = {"pooled_projections": zeros(batch, 768)} if pooled else {}
        ids = (zeros(tokens, axes), zeros(512, axes))
        return model(
            hidden_states=zeros(batch, tokens, channels), encoder_hidden_states=zeros(batch, 512, width),
            timestep=zeros(batch), img_ids=ids[0], txt_ids=ids[1], guidance=zeros(batch), **more,
        ).sample  # fmt: skip

    return call


def zeros(*shape: int) -> torch.Tensor:
    """A tensor of the precision that all is traced in."""
    return torch.zeros(*shape, dtype=BF16)


SDXL = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
SD3 = {
    "sample_size": 128, "num_layers": 24, "attention_head_dim": 64, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "out_channels": 16,
    "in_channels": 16, "pos_embed_max_size": 192,
}  # fmt: skip
KLEIN = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680,
         "guidance_embeds": False}  # fmt: skip
MODELS = {
    "stable-diffusion-v1-5": Model(
        lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768), unet(512, 768), 512, CLIP_L, 4),
    "stable-diffusion-2-1": Model(
        lambda: UNet2DConditionModel(sample_size=96, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20),
                                     use_linear_projection=True), unet(768, 1024), 768, OPEN_CLIP_H, 4),
    "stable-diffusion-xl-base-1.0": Model(
        lambda: UNet2DConditionModel(**SDXL), unet(1024, 2048, sdxl=True), 1024, CLIP_L + CLIP_BIG_G, 4),
    "stable-diffusion-3-medium": Model(
        lambda: SD3Transformer2DModel(**SD3), sd3, 1024, CLIP_L + CLIP_BIG_G + T5_XXL, 16, False),
    "flux.1-dev": Model(
        lambda: FluxTransformer2DModel(guidance_embeds=True), flux(1024, 64, 4096, 3, pooled=True), 1024,
        CLIP_L + T5_XXL, 16, False),
    "flux.2-klein-base-4b": Model(
        lambda: Flux2Transformer2DModel(**KLEIN), flux(1024, 128, 7680, 4, pooled=False), 1024, QWEN3_4B, 32, False),
}  # fmt: skip


def autoencoder(latents: int) -> nn.Module:
    """The decoder that all of them share but for the number of channels."""
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=latents,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def peak(make: Callable[[], nn.Module], call: Call, batch: int, *, train: bool, checkpointing: bool = False) -> int:
    """Bytes above the weights at the end of a forward pass, with gradients or without."""
    with FakeTensorMode(), Tracker() as tracker, torch.set_grad_enabled(train):
        torch.set_default_dtype(BF16)
        model = make()
        if checkpointing:
            model.enable_gradient_checkpointing()
        before = tracker.live
        tracker.since()
        kept = call(model.train(), batch)
        high = tracker.since() - before
        del kept
    return high


def count(make: Callable[[], nn.Module]) -> int:
    """Parameters."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make().parameters())


def row(name: str, model: Model) -> dict[str, Any]:
    """The row of one model: what the second image adds to the first."""

    def decode(vae: nn.Module, batch: int) -> torch.Tensor:
        side = model.pixels // 8
        return vae.decode(zeros(batch, model.latents, side, side)).sample

    def adds(make: Callable[[], nn.Module], call: Call, **how: bool) -> int:
        return peak(make, call, 2, **how) - peak(make, call, 1, **how)

    def vae() -> nn.Module:
        return autoencoder(model.latents)

    return {
        "name": name, "denoiser_params": count(model.make), "text_params": model.text_params,
        "text_in_training": int(model.text_in_training), "vae_params": count(vae),
        "pixels": model.pixels, "train_bytes": adds(model.make, model.call, train=True),
        "checkpointed_bytes": adds(model.make, model.call, train=True, checkpointing=True),
        "denoise_bytes": adds(model.make, model.call, train=False), "decode_bytes": adds(vae, decode, train=False),
        "source": f"tools/trace_diffusion.py, torch {torch.__version__}, diffusers {diffusers.__version__}, bf16",
        "date": "2026-11",
    }  # fmt: skip


def main(path: Path) -> None:
    """Trace and write."""
    rows = []
    for name, model in MODELS.items():
        rows.append(row(name, model))
        print(rows[-1], flush=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
