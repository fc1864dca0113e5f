"""One training step of a Hugging Face model under FakeTensorMode: live and peak bytes between its layers.

No weight or activation is ever allocated, so a shape of any size takes a second or so on any computer. Needs torch and
transformers, which gpujob itself never does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import masking_utils
from transformers.initialization import no_init_weights

LAYERS = 3

# Under fake tensors nothing can be asked of values. "Is the batch packed?" would be taken for yes, and a mask be built.
for _name in ("find_packed_sequence_indices",):
    setattr(masking_utils, _name, lambda _positions: None)


@dataclass(frozen=True, slots=True)
class Mode:
    """How a step is run. ``precision``: fp32, amp or bf16; ``lora``: none, qv or all."""

    precision: str = "bf16"
    attention: str = "sdpa"
    lora: str = "none"
    checkpointing: bool = False
    rank: int = 16


@dataclass(slots=True)
class Trace:
    """Bytes at the boundaries of a step. ``work`` is the peak inside a stretch, above what lived at its beginning."""

    before: int = 0
    after_layer: list[int] = field(default_factory=list)
    forward_work: list[int] = field(default_factory=list)
    loss_peak: int = 0
    head_peak: int = 0
    backward_start: dict[int, int] = field(default_factory=dict)
    backward_work: dict[int, int] = field(default_factory=dict)
    peak: int = 0


class Tracker(TorchDispatchMode):
    """Counts the storages that live: one finalizer for each."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.high = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.track, out)
        return out

    def track(self, tensor: torch.Tensor) -> torch.Tensor:
        """Count the storage of ``tensor`` if it is new."""
        storage = tensor.untyped_storage()
        if id(storage) not in self._known:
            size = -(-storage.nbytes() // 512) * 512
            self._known[id(storage)] = size
            self.live += size
            self.high = max(self.high, self.live)
            weakref.finalize(storage, self._freed, id(storage))
        return tensor

    def _freed(self, key: int) -> None:
        self.live -= self._known.pop(key)

    def since(self) -> int:
        """The highest since the last call."""
        high, self.high = self.high, self.live
        return high


class LoraLinear(nn.Module):
    """What PEFT does to a linear layer: adapters in fp32, the input cast to them, the result cast back."""

    def __init__(self, base: nn.Module, rank: int) -> None:
        super().__init__()
        self.base = base
        weight = base.weight
        wide, tall = (weight.shape[0], weight.shape[1]) if _is_conv1d(base) else (weight.shape[1], weight.shape[0])
        self.down = nn.Parameter(torch.empty(rank, wide))
        self.up = nn.Parameter(torch.empty(tall, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102  torch's own name
        result = self.base(x)
        delta = nn.functional.linear(nn.functional.linear(x.to(self.down.dtype), self.down), self.up) * 2.0
        return (result + delta).to(result.dtype)


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"


_QV = ("q_proj", "v_proj", "query", "value", "q_lin", "v_lin", "c_attn", "query_key_value", "qkv_proj", "Wqkv",
       "query_proj", "value_proj", "q", "v", "attn_qkv")  # fmt: skip


def _add_lora(layers: list[nn.Module], targets: str, rank: int) -> None:
    for layer in layers:
        for name, module in list(layer.named_modules()):
            if not (isinstance(module, nn.Linear) or _is_conv1d(module)):
                continue
            parent_name, _, leaf = name.rpartition(".")
            if targets == "all" or leaf in _QV:
                setattr(layer.get_submodule(parent_name), leaf, LoraLinear(module, rank))


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of the model: the first list of exactly LAYERS modules."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == LAYERS:
            return list(module)
    raise LookupError(f"{type(model).__name__} has no list of {LAYERS} blocks")


def build(model_class: str, config: Any, mode: Mode) -> nn.Module:
    """The model, untied weights tied, adapters added, in training mode."""
    config._attn_implementation = mode.attention
    dtype = torch.bfloat16 if mode.precision == "bf16" else torch.float32
    with no_init_weights():
        cls = getattr(transformers, model_class)
        model = (cls.from_config if model_class.startswith("Auto") else cls._from_config)(
            config, dtype=dtype, attn_implementation=mode.attention
        )
    model.tie_weights()
    if mode.lora != "none":
        model.requires_grad_(False)
        _add_lora(layers_of(model), mode.lora, mode.rank)
        if mode.checkpointing:
            model.enable_input_require_grads()
    model.train()
    if mode.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _hidden(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


class _Watch:
    """Marks at the boundary of each block, forward and backward."""

    def __init__(self, tracker: Tracker, trace: Trace) -> None:
        self.tracker, self.trace = tracker, trace
        self.current: int | None = None

    def before(self, _module: Any, _args: Any) -> None:
        """The first block begins: what the embedding used is no part of it."""
        self.trace.loss_peak = max(self.trace.loss_peak, self.tracker.since())

    def after(self, index: int) -> Callable[..., None]:
        """The hook behind a block; a recomputed block passes it again, and is not counted."""

        def hook(_module: Any, _args: Any, output: Any) -> None:
            trace, tracker = self.trace, self.tracker
            if len(trace.after_layer) == LAYERS:
                return
            base = trace.after_layer[-1] if trace.after_layer else trace.before
            trace.forward_work.append(tracker.since() - base)
            trace.after_layer.append(tracker.live)
            if (hidden := _hidden(output)).requires_grad:
                hidden.register_hook(lambda _grad: self.arrived(index))

        return hook

    def at_logits(self, _module: Any, _args: Any, logits: torch.Tensor) -> None:
        """The end of the loss is where the gradient of the logits is there."""
        logits.register_hook(lambda _grad: setattr(self.trace, "loss_peak", self.tracker.since()))

    def arrived(self, index: int) -> None:
        """The backward pass of a block begins."""
        high = self.tracker.since()
        if self.current is None:
            self.trace.head_peak = high
        else:
            self.trace.backward_work[self.current] = high - self.trace.backward_start[self.current]
        self.trace.backward_start[index] = self.tracker.live
        self.current = index

    def end(self) -> None:
        """The step is over."""
        if self.current is not None:
            self.trace.backward_work[self.current] = self.tracker.since() - self.trace.backward_start[self.current]


@contextmanager
def _watched(model: nn.Module, tracker: Tracker, trace: Trace) -> Iterator[None]:
    watch, layers = _Watch(tracker, trace), layers_of(model)
    handles = [layer.register_forward_hook(watch.after(i)) for i, layer in enumerate(layers)]
    handles.append(layers[0].register_forward_pre_hook(watch.before))
    if (head := model.get_output_embeddings()) is not None and torch.is_grad_enabled():
        handles.append(head.register_forward_hook(watch.at_logits))
    yield
    watch.end()
    for handle in handles:
        handle.remove()


def _autocast(mode: Mode) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if mode.precision == "amp" else nullcontext()


def trace_step(model_class: str, config: Any, mode: Mode, inputs: Callable[[], dict[str, torch.Tensor]]) -> Trace:
    """Forward and backward pass of a fresh model; what the optimizer adds is arithmetic."""
    trace = Trace()
    with FakeTensorMode(), Tracker() as tracker:
        _one_step(build(model_class, config, mode), inputs(), mode, tracker, trace)
    return trace


def _one_step(model: nn.Module, batch: dict[str, torch.Tensor], mode: Mode, tracker: Tracker, trace: Trace) -> None:
    tracker.since()
    trace.before = tracker.live
    with _watched(model, tracker, trace):
        with _autocast(mode):
            loss = model(**batch).loss
        loss.backward()
    peaks = [trace.backward_start[i] + work for i, work in trace.backward_work.items()]
    trace.peak = max(trace.loss_peak, trace.head_peak, *peaks)


def trace_forward(model_class: str, config: Any, mode: Mode, inputs: Callable[[], dict[str, torch.Tensor]]) -> Trace:
    """A forward pass without gradients and without labels, as in inference."""
    trace = Trace()
    with FakeTensorMode(), Tracker() as tracker, torch.no_grad():
        model = build(model_class, config, mode).eval()
        batch = {key: value for key, value in inputs().items() if key != "labels"}
        tracker.since()
        trace.before = tracker.live
        with _watched(model, tracker, trace), _autocast(mode):
            model(**batch)
        trace.peak = tracker.since()
    return trace
