"""The model: real code of transformers, built without weights, made to behave as on CUDA."""

import contextlib
from dataclasses import dataclass
from typing import Any, Iterator, List

import torch
import transformers
from torch import nn

try:
    from transformers import masking_utils

    # Fake tensors cannot be asked for values. "Is the batch packed?" would be taken for yes, and a mask be built.
    masking_utils.find_packed_sequence_indices = lambda *_: None
except ImportError:  # before 4.53 nothing asks
    pass

try:
    from transformers.initialization import no_init_weights
except ImportError:  # before 5
    from transformers.modeling_utils import no_init_weights

_DTYPE = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"

VISION = frozenset(["vit", "deit", "beit", "dinov2", "clip_vision_model", "siglip_vision_model"])
ENCODERS = frozenset(["bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta", "modernbert",
                      "camembert", "albert", "mpnet"])  # fmt: skip


class NotTracedError(Exception):
    """This cannot be traced; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Mode:
    """How a model is run. ``precision``: fp32, amp or bf16 (which stands for fp16 too); ``lora``: none, qv or all.

    ``half_frozen``: frozen weights are in 16 bit although autocast computes.
    """

    precision: str = "bf16"
    attention: str = "sdpa"
    lora: str = "none"
    checkpointing: bool = False
    rank: int = 16
    half_frozen: bool = False

    @property
    def weights(self) -> torch.dtype:
        """Of the model's own weights."""
        half = self.precision == "bf16" or (self.half_frozen and self.precision == "amp")
        return torch.bfloat16 if half else torch.float32

    def autocast(self) -> Any:
        """The context of forward passes."""
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.precision == "amp" else contextlib.nullcontext()


def class_of(model_type: str, head: str = "lm") -> str:
    """The class of transformers with that head and its loss."""
    if model_type in VISION:
        return "AutoModelForImageClassification"
    if head == "classifier":
        return "AutoModelForSequenceClassification"
    return "AutoModelForMaskedLM" if model_type in ENCODERS else "AutoModelForCausalLM"


def build(model_class: str, config: Any, mode: Mode) -> Any:
    """The model with tied weights tied and adapters added, in training mode."""
    config._attn_implementation = mode.attention
    cls = getattr(transformers, model_class)
    make = cls.from_config if model_class.startswith("Auto") else cls._from_config
    with no_init_weights():
        model = make(config, attn_implementation=mode.attention, **{_DTYPE: mode.weights})
    model.tie_weights()
    if mode.lora != "none":
        model.requires_grad_(False)
        _add_lora(model, mode.lora, mode.rank)
        if mode.checkpointing:
            model.enable_input_require_grads()
    model.train()
    if mode.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def layers_of(model: Any) -> List[nn.Module]:
    """The blocks of the model: its first list of as many modules as the configuration says. Raises NotTracedError."""
    count = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise NotTracedError("%s has no list of %d blocks" % (type(model).__name__, count))


class LoraLinear(nn.Module):
    """What PEFT does to a linear layer: adapters in fp32, the input cast to them, the result cast back."""

    def __init__(self, base: Any, rank: int) -> None:
        super().__init__()
        self.base = base
        tall, wide = base.weight.shape[:: -1 if _is_conv1d(base) else 1]
        self.down = nn.Parameter(torch.empty(rank, wide, dtype=torch.float32))
        self.up = nn.Parameter(torch.empty(tall, rank, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102  torch's own name
        result = self.base(x)
        delta = nn.functional.linear(nn.functional.linear(x.to(self.down.dtype), self.down), self.up) * 2.0
        return (result + delta).to(result.dtype)


_QV = ("q_proj", "v_proj", "query", "value", "q_lin", "v_lin", "c_attn", "query_key_value", "qkv_proj", "Wqkv",
       "query_proj", "value_proj", "q", "v", "attn_qkv")  # fmt: skip


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"


def _add_lora(model: Any, targets: str, rank: int) -> None:
    for layer in layers_of(model):
        for name, module in list(layer.named_modules()):
            if not (isinstance(module, nn.Linear) or _is_conv1d(module)):
                continue
            parent_name, _, leaf = name.rpartition(".")
            if targets == "all" or leaf in _QV:
                setattr(layer.get_submodule(parent_name), leaf, LoraLinear(module, rank))


@contextlib.contextmanager
def cuda_dropout() -> Iterator[None]:
    """Dropout as CUDA does it: its mask is kept in one byte per element. On a CPU it is kept as a number."""
    usual = nn.functional.dropout

    def dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        del inplace
        return torch.native_dropout(x, p, True)[0] if training and p > 0 else x

    nn.functional.dropout = dropout
    try:
        yield
    finally:
        nn.functional.dropout = usual
