"""A pretrained language model as a classifier: loading in the right precision, padding, pooling, adapters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

LORA_RANK = 16


@dataclass(frozen=True)
class Precision:
    """What weights are kept in, and what autocast computes in (None: as they are kept)."""

    weights: torch.dtype
    computing: torch.dtype | None

    @property
    def scales(self) -> bool:
        """Whether gradients must be scaled: those of fp16 vanish otherwise."""
        return self.computing is torch.float16


PRECISIONS = {
    "fp32": Precision(torch.float32, None),
    "amp-fp16": Precision(torch.float32, torch.float16),
    "amp-bf16": Precision(torch.float32, torch.bfloat16),
    "bf16": Precision(torch.bfloat16, None),
}


class Classifier(nn.Module):
    """A backbone, and a linear head in fp32 over the mean of its last hidden states."""

    def __init__(self, backbone: PreTrainedModel, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.config.hidden_size, classes)

    def forward(self, batch: BatchEncoding) -> Tensor:
        """Representations in fp32, [batch, hidden]: the mean over tokens that are no padding, on either side."""
        states = self.backbone(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(2)
        return (states.float() * mask).sum(1) / mask.sum(1).clamp(min=1)


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Phi-1.5 comes without a pad token: its end-of-text token pads, and is masked."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_classifier(model: str, classes: int, precision: Precision, *, lora: bool) -> Classifier:
    """The pretrained model with a new head and gradient checkpointing, on the CPU.

    Frozen weights need no more than 16 bits, so with adapters they are kept in what is computed in.
    """
    kept = precision.computing if lora and precision.computing else precision.weights
    backbone = AutoModel.from_pretrained(model, dtype=kept)
    backbone.config.use_cache = False
    backbone.activation_checkpointing_enable({"use_reentrant": False})
    return Classifier(_with_adapters(backbone) if lora else backbone, classes)


def _with_adapters(backbone: PreTrainedModel) -> PreTrainedModel:
    """LoRA (Hu et al. 2021) on every matrix of the blocks, in fp32; the rest is frozen."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules="all-linear")
    return get_peft_model(backbone, config)


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: with adapters a thousandth of the model, and all that a checkpoint needs."""
    names = {name for name, each in model.named_parameters() if each.requires_grad}
    return {name: each for name, each in model.state_dict().items() if name in names}
