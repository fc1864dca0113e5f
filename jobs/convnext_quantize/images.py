"""Images to measure with: your own, or ten kinds of patterns that are drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Floats = NDArray[np.float32]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, by which ConvNeXt's input is normalised."""
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}

PATTERNS: dict[str, Callable[[Floats, Floats, float], Floats]] = {
    "rows": lambda _, y, f: np.sin(f * y),
    "columns": lambda x, _, f: np.sin(f * x),
    "falling": lambda x, y, f: np.sin(f * (x + y) / 1.4),
    "rising": lambda x, y, f: np.sin(f * (x - y) / 1.4),
    "checks": lambda x, y, f: np.sign(np.sin(f * x) * np.sin(f * y)),
    "dots": lambda x, y, f: np.cos(f * x) * np.cos(f * y),
    "rings": lambda x, y, f: np.sin(f * np.hypot(x, y)),
    "rays": lambda x, y, f: np.sin(round(f / 3) * np.arctan2(y, x)),
    "waves": lambda x, y, f: np.sin(f * y + 2 * np.sin(f * x / 2)),
    "cells": lambda x, y, f: np.maximum(np.abs(np.sin(f * x / 2)), np.abs(np.sin(f * y / 2))) * 2 - 1,
}
"""Each kind: its brightness from -1 to 1 at (x, y) for a frequency."""


def generated(count: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """``count`` images (count, 3, side, side), normalised, of all kinds in turn, and their labels."""
    random = np.random.default_rng(seed)
    labels = torch.arange(count) % len(PATTERNS)
    drawn = [_draw(list(PATTERNS.values())[label], side, random) for label in labels.tolist()]
    return normalised(np.stack(drawn)), labels


def _draw(pattern: Callable[[Floats, Floats, float], Floats], side: int, random: np.random.Generator) -> Floats:
    """One image (side, side, 3) from 0 to 1: the pattern at a random place and scale, in two random colours, noisy."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    left, top = random.uniform(-0.3, 0.3, 2).astype(np.float32)
    light = (pattern(x - left, y - top, random.uniform(8, 20)) + 1)[..., None] / 2
    dark_colour, light_colour = random.uniform(0, 0.4, 3), random.uniform(0.6, 1, 3)
    image = dark_colour + light * (light_colour - dark_colour) + random.normal(0, 0.05, (side, side, 3))
    return np.clip(image, 0, 1).astype(np.float32)


def from_folder(folder: Path, side: int, count: int) -> tuple[Tensor, Tensor]:
    """Up to ``count`` images of ``folder/<class>/``, classes numbered in alphabetical order, each taken in turn.

    Raises FileNotFoundError if there is none.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    found = [
        (file, label)
        for label, path in enumerate(classes)
        for file in sorted(path.iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]
    if not found:
        raise FileNotFoundError(f"no images in {folder}: put them into a folder for each class, such as {folder}/cat/")
    chosen = [found[place] for place in np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).astype(int))]
    images = np.stack([from_file(file, side) for file, _ in chosen])
    return normalised(images), torch.tensor([label for _, label in chosen])


def from_file(path: Path, side: int) -> Floats:
    """The middle of an image, (side, side, 3) from 0 to 1: scaled so that 7/8 of its shorter edge is seen."""
    image = Image.open(path).convert("RGB")
    scale = side / 0.875 / min(image.size)
    image = image.resize((max(side, round(image.width * scale)), max(side, round(image.height * scale))))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)), dtype=np.float32) / 255


def normalised(images: Floats) -> Tensor:
    """Images (n, side, side, 3) from 0 to 1 as what the network takes: (n, 3, side, side)."""
    return torch.from_numpy((images - np.float32(MEAN)) / np.float32(STD)).permute(0, 3, 1, 2).contiguous()
