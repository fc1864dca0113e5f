"""Make a checkpoint such as training leaves behind: a ConvNeXt with the state of its optimizer, from a seed.

    python make_checkpoint.py --size base --out checkpoint.pth

Base has 87.6 million parameters. With AdamW's two moments, in fp32, that is 12 bytes each: 1051 MB, the "1003 MB"
(MiB) file that started this job. Blocks are random; the last layer is fitted (ridge regression) to tell ten kinds of
patterns apart, so that there is an accuracy to lose.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from images import PATTERNS, generated
from torch import Tensor
from transformers import ConvNextConfig, ConvNextForImageClassification

SIZES = {
    "smoke": ((1, 1, 2, 1), (32, 64, 128, 256)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}
"""Blocks and widths of the four stages."""
RIDGE = 1e-2
BATCH = 16


def make_model(size: str, seed: int, side: int, examples: int) -> ConvNextForImageClassification:
    """A ConvNeXt from ``seed`` whose last layer was fitted to ``examples`` patterns of ``side`` pixels."""
    torch.manual_seed(seed)
    depths, widths = SIZES[size]
    config = ConvNextConfig(
        depths=list(depths),
        hidden_sizes=list(widths),
        num_labels=len(PATTERNS),
        layer_scale_init_value=0.3,  # at the usual 1e-6 and 0.02 random blocks do next to nothing,
        initializer_range=0.15,  # and quantising them would change nothing either
    )
    model = ConvNextForImageClassification(config).eval()
    images, labels = generated(examples, side, seed + 1)
    fit_head(model, images, labels)
    return model


@torch.inference_mode()
def fit_head(model: ConvNextForImageClassification, images: Tensor, labels: Tensor) -> None:
    """Ridge regression from pooled features (n, width) to one-hot labels, its penalty relative to their variance."""
    features = torch.cat([model.convnext(batch).pooler_output for batch in images.split(BATCH)]).double()
    centre, scale = features.mean(0), features.std(0) + 1e-9
    inputs = (features - centre) / scale
    targets = torch.nn.functional.one_hot(labels, model.config.num_labels).double() - 1 / model.config.num_labels
    # n examples, fewer than features: the dual form inverts n x n
    kernel = inputs @ inputs.T
    penalty = RIDGE * kernel.diagonal().mean() * torch.eye(len(kernel), dtype=torch.double)
    weight = (inputs.T @ torch.linalg.solve(kernel + penalty, targets)).T / scale
    model.classifier.weight.copy_(weight)
    model.classifier.bias.copy_(-weight @ centre)


def with_optimizer(model: ConvNextForImageClassification) -> dict[str, object]:
    """What a training program saves: the weights, and the state of AdamW after a step without gradients."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 0}


def main() -> None:
    """Parse the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(description="Make a checkpoint of a ConvNeXt from a seed.")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=128, help="pixels of the images that its last layer is fitted to")
    parser.add_argument("--examples", type=int, default=200, help="how many of them")
    parser.add_argument("--out", type=Path, default=Path("checkpoint.pth"))
    args = parser.parse_args()
    write(args.out, args.size, args.seed, args.side, args.examples)


def write(out: Path, size: str, seed: int, side: int, examples: int) -> Path:
    """Make a checkpoint and save it at ``out``."""
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(with_optimizer(make_model(size, seed, side, examples)), out)
    return out


if __name__ == "__main__":
    main()
