"""Diffusion models as sums of parts: the denoiser, what reads the text, and the autoencoder of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestrator.catalog.rows import Row, read_rows

_COLUMNS = (
    "name", "denoiser_params", "text_params", "text_in_training", "vae_params", "pixels", "train_bytes",
    "checkpointed_bytes", "denoise_bytes", "decode_bytes", "source", "date",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Diffusion:
    """Parameters of the parts, and the bytes in 16 bit that one image of ``pixels`` x ``pixels`` adds to each step.

    ``text_in_training``: whether the text encoder stays on the GPU in training. Large ones encode the prompts first.
    """

    name: str
    denoiser_params: int
    text_params: int
    text_in_training: bool
    vae_params: int
    pixels: int
    train_bytes: int
    checkpointed_bytes: int
    denoise_bytes: int
    decode_bytes: int

    @property
    def params(self) -> int:
        """Of all parts."""
        return self.denoiser_params + self.text_params + self.vae_params


def find_diffusion(name: str, known: Mapping[str, Diffusion]) -> Diffusion | None:
    """The model called ``name`` on the hub, by whoever copied it there; None if it is no known diffusion model."""
    short = name.lower().rpartition("/")[2].removesuffix("-diffusers")
    return known.get(short)


@cache
def bundled_diffusion() -> dict[str, Diffusion]:
    """Every traced diffusion model, by name without owner."""
    return {each.name: each for each in read_rows(Path(__file__).with_name("diffusion.csv"), _COLUMNS, _diffusion)}


def _diffusion(row: Row) -> Diffusion:
    row.needed("source")
    flag = "text_in_training"
    sizes = {name: round(row.needed_number(name)) for name in _COLUMNS[1:10] if name != flag}
    return Diffusion(name=row.needed("name"), text_in_training=row.needed(flag) == "1", **sizes)
