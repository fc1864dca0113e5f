"""Regenerate orchestrator/catalog/cnns.csv: parameters, and bytes that each image adds to the peak of a training step.

.venv-exact/bin/python tools/trace_cnns.py orchestrator/catalog/cnns.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import ConvNextConfig, ConvNextForImageClassification, ResNetConfig, ResNetForImageClassification

from backends.runner.tracing.tracker import Tracker

NETWORKS: dict[str, tuple[type[Any], Any]] = {
    "resnet18": (ResNetForImageClassification, ResNetConfig(
        depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic", num_labels=1000)),
    "resnet34": (ResNetForImageClassification, ResNetConfig(
        depths=[3, 4, 6, 3], hidden_sizes=[64, 128, 256, 512], layer_type="basic", num_labels=1000)),
    "resnet50": (ResNetForImageClassification, ResNetConfig(num_labels=1000)),
    "resnet101": (ResNetForImageClassification, ResNetConfig(depths=[3, 4, 23, 3], num_labels=1000)),
    "resnet152": (ResNetForImageClassification, ResNetConfig(depths=[3, 8, 36, 3], num_labels=1000)),
    "convnext-tiny": (ConvNextForImageClassification, ConvNextConfig(num_labels=1000)),
    "convnext-small": (ConvNextForImageClassification, ConvNextConfig(depths=[3, 3, 27, 3], num_labels=1000)),
    "convnext-base": (ConvNextForImageClassification, ConvNextConfig(
        depths=[3, 3, 27, 3], hidden_sizes=[128, 256, 512, 1024], num_labels=1000)),
    "convnext-large": (ConvNextForImageClassification, ConvNextConfig(
        depths=[3, 3, 27, 3], hidden_sizes=[192, 384, 768, 1536], num_labels=1000)),
}  # fmt: skip

# ConvNext computes its rates of stochastic depth, all 0 here, as tensors: a fake one has no values to read.
FakeTensor.tolist = lambda self: [0.0] * self.numel()


def peaks(network: str, batch: int) -> tuple[int, int, int]:
    """Parameters; the peak of a training pass and of a forward pass in fp32, above the weights."""
    model_class, config = NETWORKS[network]
    with FakeTensorMode(), Tracker() as tracker:
        model = model_class(config).train()
        count = sum(parameter.numel() for parameter in model.parameters())
        images, labels = torch.zeros(batch, 3, 224, 224), torch.zeros(batch, dtype=torch.long)
        before = tracker.live
        tracker.since()
        with torch.no_grad():
            model(pixel_values=images)
        forward = tracker.since() - before
        model(pixel_values=images, labels=labels).loss.backward()
        return count, tracker.since() - before, forward


def main(path: Path) -> None:
    """Trace two batches of each network; the slope is what an image adds."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "params", "train_bytes_per_image", "infer_bytes_per_image", "source", "date"])
        for name in NETWORKS:
            count, *small = peaks(name, 32)
            _, *large = peaks(name, 96)
            slopes = [round((b - a) / 64) for a, b in zip(small, large, strict=True)]
            writer.writerow(
                [name, count, *slopes, f"tools/trace_cnns.py, torch {torch.__version__}, fp32, 224 px", "2026-11"]
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
