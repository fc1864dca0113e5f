"""One training step of a Hugging Face model under FakeTensorMode: live and peak bytes between its layers.

No weight or activation is ever allocated, so a shape of any size takes a second or so on any computer. Runs where
``gpujob[exact]`` is installed: the model and the tracker are those of exact mode (backends/runner/tracing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from backends.runner.tracing.model import Mode, build, layers_of
from backends.runner.tracing.tracker import Tracker


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


def _hidden(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


class _Watch:
    """Marks at the boundary of each block, forward and backward."""

    def __init__(self, tracker: Tracker, trace: Trace, layers: int) -> None:
        self.tracker, self.trace, self.layers = tracker, trace, layers
        self.current: int | None = None

    def before(self, _module: Any, _args: Any) -> None:
        """The first block begins: what the embedding used is no part of it."""
        self.trace.loss_peak = max(self.trace.loss_peak, self.tracker.since())

    def after(self, index: int) -> Callable[..., None]:
        """The hook behind a block; a recomputed block passes it again, and is not counted."""

        def hook(_module: Any, _args: Any, output: Any) -> None:
            trace, tracker = self.trace, self.tracker
            if len(trace.after_layer) == self.layers:
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
    layers = layers_of(model)
    watch = _Watch(tracker, trace, len(layers))
    handles = [layer.register_forward_hook(watch.after(i)) for i, layer in enumerate(layers)]
    handles.append(layers[0].register_forward_pre_hook(watch.before))
    if (head := model.get_output_embeddings()) is not None and torch.is_grad_enabled():
        handles.append(head.register_forward_hook(watch.at_logits))
    yield
    watch.end()
    for handle in handles:
        handle.remove()


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
        with mode.autocast():
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
        with _watched(model, tracker, trace), mode.autocast():
            model(**batch)
        trace.peak = tracker.since()
    return trace
