"""Checkpoints of ConvNeXt, by transformers or timm, bare or with an optimizer; and the INT8 file made of them."""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from sizes import BrokenFileError
from torch import Tensor
from transformers import ConvNextConfig, ConvNextForImageClassification

State = dict[str, Tensor]

_WEIGHTS_UNDER = ("model", "state_dict", "model_state_dict", "model_ema")
"""Where training programs put the weights beside their optimizer."""
_TIMM = (
    (r"^stem\.0\.", "convnext.embeddings.patch_embeddings."),
    (r"^stem\.1\.", "convnext.embeddings.layernorm."),
    (r"^head\.norm\.", "convnext.layernorm."),
    (r"^head\.fc\.", "classifier."),
    (r"^stages\.(\d+)\.downsample\.", r"convnext.encoder.stages.\1.downsampling_layer."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.", r"convnext.encoder.stages.\1.layers.\2."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"(layers\.\d+)\.norm\.", r"\1.layernorm."),
    (r"\.mlp\.fc([12])\.", r".pwconv\1."),
    (r"\.gamma$", ".layer_scale_parameter"),
)
"""Names of tensors in timm, and what transformers calls them."""
_BLOCK = re.compile(r"convnext\.encoder\.stages\.(\d+)\.layers\.(\d+)\.pwconv1\.weight")


def load_weights(path: Path) -> State:
    """The weights in ``path``, by the names of transformers. They stay mapped from the file; an optimizer is not read.

    Raises BrokenFileError if it is no checkpoint of a ConvNeXt classifier.
    """
    state = load_file(path) if path.suffix == ".safetensors" else _weights_of(read(path))
    state = {transformers_name(name.removeprefix("module.")): tensor for name, tensor in state.items()}
    if "classifier.weight" not in state or not any(map(_BLOCK.fullmatch, state)):
        raise BrokenFileError(f"{path} is not a checkpoint of a ConvNeXt classifier: it has {sorted(state)[:3]} ...")
    return state


def read(path: Path) -> Any:
    """What torch saved at ``path``, mapped and without running code that it may contain.

    Raises MemoryError if there is no room to map it, BrokenFileError if it is something else.
    """
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        if "Cannot allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        raise BrokenFileError(f"{path} is no checkpoint that torch can read safely: {error}") from error


def _weights_of(saved: Any) -> State:
    for key in _WEIGHTS_UNDER:
        if isinstance(saved, dict) and isinstance(saved.get(key), dict):
            return _weights_of(saved[key])
    if not isinstance(saved, dict) or not all(isinstance(value, Tensor) for value in saved.values()):
        raise BrokenFileError(f"no weights under any of {', '.join(_WEIGHTS_UNDER)}")
    return saved


def transformers_name(name: str) -> str:
    """What transformers calls the tensor ``name`` of timm; its own names stay."""
    for pattern, ours in _TIMM:
        name = re.sub(pattern, ours, name)
    return name


def config_of(state: State) -> ConvNextConfig:
    """The architecture, read off the shapes of ``state``."""
    depths: dict[int, int] = {}
    widths: dict[int, int] = {}
    for name, tensor in state.items():
        if match := _BLOCK.fullmatch(name):
            stage, block = int(match[1]), int(match[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
            widths[stage] = tensor.shape[1]
    patches = state["convnext.embeddings.patch_embeddings.weight"]
    return ConvNextConfig(
        num_channels=patches.shape[1],
        patch_size=patches.shape[2],
        depths=[depths[stage] for stage in sorted(depths)],
        hidden_sizes=[widths[stage] for stage in sorted(widths)],
        num_stages=len(depths),
        num_labels=state["classifier.weight"].shape[0],
    )


def model_of(state: State) -> ConvNextForImageClassification:
    """A model whose weights are those of ``state``: nothing is allocated, what is mapped stays so.

    Raises BrokenFileError if tensors are missing, too many or of another shape.
    """
    with torch.device("meta"):
        model = ConvNextForImageClassification(config_of(state))
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise BrokenFileError(f"the weights are not those of a ConvNeXt of transformers or timm: {error}") from error
    return model.eval()


def bytes_of(state: State) -> int:
    """Bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
