"""INT8 by torchao: weights per output channel, and for the dynamic mode activations per token while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from checkpoint import State, load_weights, model_of, read
from sizes import BrokenFileError
from torch import Tensor
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_
from transformers import ConvNextForImageClassification

MODES = {"weight-only": Int8WeightOnlyConfig, "dynamic": Int8DynamicActivationInt8WeightConfig}
"""weight-only computes in fp32 with weights that are expanded as they are used; dynamic multiplies in INT8."""
BATCH = 16
FORMAT = "convnext-int8-1"


class Agreement(NamedTuple):
    """How a model does on images whose labels are known, and beside the float model."""

    accuracy: float
    same_class: float  # share of images for which it says what the float model says
    logit_error: float  # mean absolute difference of logits, relative to their spread in the float model


def quantized(state: State, mode: str) -> ConvNextForImageClassification:
    """The model of ``state`` with its Linear layers, 95 % of all parameters, in INT8; the others stay fp32."""
    model = model_of(state)
    quantize_(model, MODES[mode]())
    return model


def save_quantized(model: ConvNextForImageClassification, mode: str, path: Path) -> int:
    """Write ``model`` for :func:`load_quantized`; returns the bytes of the file."""
    torch.save({"format": FORMAT, "mode": mode, "model": model.state_dict()}, path)
    return path.stat().st_size


def load_quantized(path: Path) -> ConvNextForImageClassification:
    """The model in ``path``, its weights mapped from the file; one that was never quantised is loaded as it is."""
    saved = {} if path.suffix == ".safetensors" else read(path)
    if saved.get("format") != FORMAT:
        return model_of(load_weights(path))
    if saved["mode"] not in MODES:
        raise BrokenFileError(f"{path} was quantised in a way that is not known here: {saved['mode']}")
    return model_of(saved["model"])


@torch.inference_mode()
def logits_of(model: ConvNextForImageClassification, images: Tensor) -> Tensor:
    """Logits (n, classes) of ``images`` (n, 3, side, side)."""
    return torch.cat([model(batch).logits for batch in images.split(BATCH)])


def compare(logits: Tensor, exact: Tensor, labels: Tensor) -> Agreement:
    """Accuracy of ``logits`` (n, classes), and how far they are from ``exact`` ones."""
    chosen = logits.argmax(1)
    return Agreement(
        accuracy=(chosen == labels).double().mean().item(),
        same_class=(chosen == exact.argmax(1)).double().mean().item(),
        logit_error=((logits - exact).abs().mean() / exact.std().clamp_min(1e-12)).item(),
    )
