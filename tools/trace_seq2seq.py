"""Regenerate orchestrator/catalog/encoder_decoders.csv: what blocks of encoder-decoders hold and use, by side.

    .venv-exact/bin/python tools/trace_seq2seq.py orchestrator/catalog/encoder_decoders.csv

As tools/trace_families.py, whose columns and fit it uses. A family has two rows for each quantity: those of its encoder
under its name and `encoder`, and those of its decoder, in which `tkv` counts tokens of the source, of which each block
of the decoder makes keys and values, and `cross` is batch * heads * target * source.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from trace_families import FEATURES as SIZES
from trace_families import IN_BLOCK, MOVING, OUTSIDE, fit, write
from transformers import CONFIG_MAPPING
from transformers.initialization import no_init_weights

from backends.runner.tracing.model import LoraLinear, Mode
from backends.runner.tracing.tracker import Tracker


@dataclass(frozen=True, slots=True)
class Shape:
    """A batch and a model: batch, source and target length, hidden, ffn, heads, head_dim, vocabulary."""

    b: int
    source: int
    target: int
    h: int
    f: int
    a: int
    d: int
    v: int


# T5 asks its output matrix for its dtype; PEFT's layers answer for the one that they wrap.
LoraLinear.weight = property(lambda self: self.base.weight)

SHAPES = (
    Shape(4, 512, 128, 1024, 4096, 16, 64, 32128),
    Shape(2, 1024, 512, 2048, 5120, 32, 64, 32128),
    Shape(8, 256, 256, 768, 3072, 12, 64, 50304),
    Shape(16, 128, 512, 512, 2048, 8, 64, 8192),
    Shape(1, 2048, 256, 1024, 2816, 16, 64, 64000),
    Shape(2, 384, 1024, 1280, 5120, 20, 64, 51968),
    Shape(4, 640, 192, 2048, 8192, 16, 128, 32128),
    Shape(1, 4096, 1024, 512, 1024, 8, 64, 32128),
    Shape(4, 768, 384, 1024, 4096, 16, 64, 32128),
)
"""The last one is for checking."""
LAYERS = 3
"""Blocks of each side: the last but one is the one that is looked at."""
ATTENTION = ("q", "v", "q_proj", "v_proj")
FREE_HEAD_DIM = ("t5", "t5_gated")
FAMILIES = ("t5", "t5_gated", "bart", "whisper")
MODES = (Mode("bf16"), Mode("amp"), Mode("fp32"), Mode("bf16", lora="qv"), Mode("bf16", lora="all"))
FEATURES = (*SIZES, "cross")
BY_SIDE = ("tkv", "cross")
"""What only a decoder has."""
QUANTITIES = {"saved": (*IN_BLOCK, "cross"), "work": (*MOVING, "cross"), "infer": (*IN_BLOCK, "cross")}
ENDS = ("loss", "head", "after")


def config_of(family: str, s: Shape) -> Any:
    """The family in that shape, without dropout."""
    if family.startswith("t5"):
        gated = "gated-gelu" if family == "t5_gated" else "relu"
        config = CONFIG_MAPPING["t5"](
            d_model=s.h, d_ff=s.f, num_heads=s.a, d_kv=s.d, vocab_size=s.v, num_layers=LAYERS,
            num_decoder_layers=LAYERS, feed_forward_proj=gated, dropout_rate=0.0, pad_token_id=0,
            decoder_start_token_id=0,
        )  # fmt: skip
    else:
        longest = {"max_source_positions": s.source, "max_target_positions": s.target}
        names = longest if family == "whisper" else {"max_position_embeddings": max(s.source, s.target)}
        config = CONFIG_MAPPING[family](
            d_model=s.h, encoder_ffn_dim=s.f, decoder_ffn_dim=s.f, encoder_attention_heads=s.a, vocab_size=s.v,
            decoder_attention_heads=s.a, encoder_layers=LAYERS, decoder_layers=LAYERS, dropout=0.0,
            attention_dropout=0.0, activation_dropout=0.0, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=1, **names,
        )  # fmt: skip
    config.use_cache = False
    return config


def inputs_of(family: str, s: Shape) -> dict[str, torch.Tensor]:
    """What the model is called with."""
    labels = {"labels": torch.zeros(s.b, s.target, dtype=torch.long)}
    if family == "whisper":
        return {"input_features": torch.zeros(s.b, 80, 2 * s.source), **labels}
    return {"input_ids": torch.zeros(s.b, s.source, dtype=torch.long), **labels}


@dataclass(slots=True)
class Side:
    """Live bytes after each block of one stack, and the work in it above what lived at its beginning."""

    before: int = 0
    after: list[int] = field(default_factory=list)
    forward_work: list[int] = field(default_factory=list)
    backward_start: dict[int, int] = field(default_factory=dict)
    backward_work: dict[int, int] = field(default_factory=dict)

    @property
    def saved(self) -> int:
        """What the last block but one added."""
        return self.after[LAYERS - 2] - self.after[LAYERS - 3]


class Watch:
    """Marks at the boundaries of the blocks of both stacks."""

    def __init__(self, tracker: Tracker, model: nn.Module) -> None:
        self.tracker = tracker
        self.sides = {"encoder": Side(), "decoder": Side()}
        self.loss_peak = self.head_peak = 0
        self.current: tuple[Side, int] | None = None
        for name, side in self.sides.items():
            for index, block in enumerate(blocks_of(getattr(model, f"get_{name}")())):
                block.register_forward_pre_hook(self.begins(side))
                block.register_forward_hook(self.ends(side, index))
        model.get_output_embeddings().register_forward_hook(self.at_logits)

    def begins(self, side: Side) -> Callable[..., None]:
        """Before the first block of a side: what came earlier is no part of it."""

        def hook(_module: Any, _args: Any) -> None:
            if not side.after:
                self.loss_peak = max(self.loss_peak, self.tracker.since())
                side.before = self.tracker.live

        return hook

    def ends(self, side: Side, index: int) -> Callable[..., None]:
        """Behind a block."""

        def hook(_module: Any, _args: Any, output: Any) -> None:
            base = side.after[-1] if side.after else side.before
            side.forward_work.append(self.tracker.since() - base)
            side.after.append(self.tracker.live)
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.requires_grad:
                hidden.register_hook(lambda _grad: self.arrived(side, index))

        return hook

    def at_logits(self, _module: Any, _args: Any, logits: torch.Tensor) -> None:
        """The end of the loss is where the gradient of the logits is there."""
        if logits.requires_grad:
            logits.register_hook(lambda _grad: setattr(self, "loss_peak", self.tracker.since()))

    def arrived(self, side: Side, index: int) -> None:
        """The backward pass of a block begins."""
        high = self.tracker.since()
        if self.current is None:
            self.head_peak = high
        else:
            before, last = self.current
            before.backward_work[last] = high - before.backward_start[last]
        side.backward_start[index] = self.tracker.live
        self.current = (side, index)


def blocks_of(stack: nn.Module) -> list[nn.Module]:
    """The blocks of an encoder or decoder."""
    return list(stack.block if hasattr(stack, "block") else stack.layers)


def build(family: str, s: Shape, mode: Mode) -> nn.Module:
    """The model with adapters if the mode has any."""
    cls = transformers.WhisperForConditionalGeneration if family == "whisper" else transformers.AutoModelForSeq2SeqLM
    dtype = torch.bfloat16 if mode.precision == "bf16" else torch.float32
    make = cls._from_config if family == "whisper" else cls.from_config
    with no_init_weights():
        model = make(config_of(family, s), dtype=dtype, attn_implementation=mode.attention)
    model.tie_weights()
    if mode.lora != "none":
        model.requires_grad_(False)
        for block in (*blocks_of(model.get_encoder()), *blocks_of(model.get_decoder())):
            add_lora(block, mode)
    return model.train()


def add_lora(block: nn.Module, mode: Mode) -> None:
    """Adapters on the matrices of a block that the mode names."""
    for name, module in list(block.named_modules()):
        parent, _, leaf = name.rpartition(".")
        if isinstance(module, nn.Linear) and (mode.lora == "all" or leaf in ATTENTION):
            setattr(block.get_submodule(parent), leaf, LoraLinear(module, mode.rank))


def autocast(mode: Mode) -> AbstractContextManager[Any]:
    """The context that the forward pass runs in."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if mode.precision == "amp" else nullcontext()


def trace(family: str, s: Shape, mode: Mode, *, train: bool) -> tuple[Watch, int]:
    """The marks of one step or of one pass without gradients, and what lived before it."""
    with FakeTensorMode(), Tracker() as tracker, torch.set_grad_enabled(train):
        model = build(family, s, mode)
        batch = inputs_of(family, s)
        if "input_features" in batch and mode.precision == "bf16":
            batch["input_features"] = batch["input_features"].bfloat16()
        before = tracker.live
        tracker.since()
        watch = Watch(tracker, model)
        with autocast(mode):
            loss = model(**batch).loss
        if train:
            loss.backward()
    return watch, before


def features(s: Shape, side: str, weights: int) -> dict[str, float]:
    """Sizes that the coefficients belong to, of one side."""
    own = s.b * (s.source if side == "encoder" else s.target)
    other = s.b * s.source
    length = s.source if side == "encoder" else s.target
    q = s.a * s.d
    return {
        "th": own * s.h, "tf": own * s.f, "tq": own * q, "tkv": other * q, "ta": own * s.a, "t": own,
        "bass": s.b * s.a * length**2, "w": weights, "tv": own * s.v, "vh": s.v * s.h,
        "cross": s.b * s.a * s.target * s.source if side == "decoder" else 0,
    }  # fmt: skip


def weights_of(family: str, s: Shape, side: str) -> int:
    """Weights of the matrices of a block: a decoder's has a second attention."""
    attention = 4 * s.h * s.a * s.d * (2 if side == "decoder" else 1)
    return attention + (3 if family == "t5_gated" else 2) * s.h * s.f


def measure(family: str, mode: Mode) -> dict[str, list[tuple[dict[str, float], dict[str, float]]]]:
    """Features and quantities of every shape, by side."""
    rows: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {"encoder": [], "decoder": []}
    for shape in SHAPES:
        s = shape if family in FREE_HEAD_DIM else Shape(**{**vars_of(shape), "d": shape.h // shape.a})
        watch, before = trace(family, s, mode, train=True)
        forward = trace(family, s, mode, train=False)[0] if mode.lora == "none" else None
        both = LAYERS * sum(side.saved for side in watch.sides.values())
        for name, side in watch.sides.items():
            found = {"saved": side.saved, "work": side.backward_work[LAYERS - 2]}
            if forward:
                found["infer"] = forward.sides[name].forward_work[LAYERS - 2]
            if name == "decoder":
                found |= {
                    "loss": max(watch.loss_peak - before - both, 0), "head": watch.head_peak - before - both,
                    "after": side.backward_start[LAYERS - 1] - before - both,
                }  # fmt: skip
            rows[name].append((features(s, name, weights_of(family, s, name)), found))
    return rows


def vars_of(shape: Shape) -> dict[str, int]:
    """The fields of a shape."""
    return {name: getattr(shape, name) for name in Shape.__dataclass_fields__}


def rows_of(job: tuple[str, Mode]) -> list[dict[str, Any]]:
    """The rows of the table for one family and mode."""
    torch.set_num_threads(1)
    family, mode = job
    rows = []
    for side, measured in measure(family, mode).items():
        for quantity in (*QUANTITIES, *(ENDS if side == "decoder" else ())):
            values = [(each, found[quantity]) for each, found in measured if quantity in found]
            if not values:
                continue
            names = QUANTITIES.get(quantity, (*OUTSIDE, "tkv", "bass", "cross"))
            usual = tuple(name for name in names if side == "decoder" or name not in BY_SIDE)
            coefficients, error = fit(values, usual)
            key = {"model_type": f"{family} encoder" if side == "encoder" else family, "precision": mode.precision,
                   "attention": mode.attention, "lora": mode.lora, "quantity": quantity}  # fmt: skip
            numbers = {name: f"{coefficients.get(name, 0):g}" for name in FEATURES}
            rows.append({**key, **numbers, "error": f"{error:.4f}"})
    return rows


def main(path: Path) -> None:
    """Trace and write."""
    jobs = [(family, mode) for mode in MODES for family in FAMILIES]
    kept: list[dict[str, Any]] = []
    with ProcessPoolExecutor(2) as pool:
        for (family, mode), rows in zip(jobs, pool.map(rows_of, jobs), strict=True):
            kept += rows
            print(family, mode.precision, mode.lora, *(f"{r['model_type']}:{r['quantity']}={r['error']}" for r in rows),
                  flush=True)  # fmt: skip
            write(path, ["model_type", "precision", "attention", "lora", "quantity", *FEATURES, "error"], kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
