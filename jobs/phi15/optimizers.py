"""The optimizers that differ in what they keep, and where."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

NAMES = ("adamw", "adamw-8bit", "adamw-offload")


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer | OffloadedAdamW:
    """The optimizer called ``name`` over what is trained."""
    trained = [each for each in parameters if each.requires_grad]
    if name == "adamw-offload":
        return OffloadedAdamW(trained, lr)
    if name == "adamw-8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(trained, lr=lr)
    return torch.optim.AdamW(trained, lr=lr, fused=True)


class OffloadedAdamW:
    """AdamW whose fp32 weights, moments and gradients lie in host RAM.

    The GPU holds the 16-bit weights and the gradient that is just made; each leaves for RAM as soon as it is there, and
    the step is made by the CPU. Per weight that is 2 bytes of VRAM and 16 of RAM, as in ZeRO-Offload (Ren et al. 2021).
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        self.pairs = [(each, _master(each)) for each in parameters]
        self.inner = torch.optim.AdamW([master for _, master in self.pairs], lr=lr, fused=True)
        for each, master in self.pairs:
            each.register_post_accumulate_grad_hook(partial(_take, master))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of the weights in RAM: their gradients are what a step uses, and what is clipped."""
        return self.inner.param_groups

    def step(self) -> None:
        """One step in RAM, then the new weights to the GPU."""
        self.inner.step()
        with torch.no_grad():
            for each, master in self.pairs:
                each.copy_(master)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.inner.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Moments and the fp32 weights, which are finer than those of the model."""
        return {"inner": self.inner.state_dict(), "masters": [master.detach() for _, master in self.pairs]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self.inner.load_state_dict(state["inner"])
        with torch.no_grad():
            for (_, master), saved in zip(self.pairs, state["masters"], strict=True):
                master.copy_(saved)


def _master(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().to("cpu", torch.float32, copy=True).requires_grad_()


def _take(master: Tensor, parameter: Tensor) -> None:
    """Add the gradient that has just been made to those in RAM, and free it on the GPU."""
    assert parameter.grad is not None
    arrived = parameter.grad.to("cpu", torch.float32, copy=True)
    master.grad = arrived if master.grad is None else master.grad.add_(arrived)
    parameter.grad = None
