"""Counts the storages that live while a model runs on fake tensors."""

import weakref
from typing import Any, Dict, Iterable, List, Tuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from .allocator import Event, rounded

STEP = "optimizer step"


class Tracker(TorchDispatchMode):
    """Keeps a log of storages that were taken and given back, by one finalizer for each."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.high = 0
        self.events: List[Event] = []
        self._phases: List[Tuple[int, str]] = []
        self._owners: Dict[int, str] = {}
        self._known: Dict[int, Event] = {}
        self._count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.track, out)
        return out

    def track(self, tensor: torch.Tensor) -> torch.Tensor:
        """Count the storage of ``tensor`` if it is new."""
        storage = tensor.untyped_storage()
        if id(storage) not in self._known:
            self._count += 1
            size = rounded(storage.nbytes())
            self._known[id(storage)] = (self._count, size)
            self._add(self._count, size)
            weakref.finalize(storage, self._freed, id(storage))
        return tensor

    def _freed(self, key: int) -> None:
        number, size = self._known.pop(key)
        self._add(number, -size)

    def _add(self, number: int, size: int) -> None:
        self.events.append((number, size))
        self.live += size
        self.high = max(self.high, self.live)

    def since(self) -> int:
        """The highest number of live bytes since the last call."""
        high, self.high = self.high, self.live
        return high

    def enter(self, phase: str) -> None:
        """What follows belongs to ``phase``."""
        self._phases.append((len(self.events), phase))

    def own(self, name: str, tensors: Iterable[torch.Tensor]) -> None:
        """Say what the storages of ``tensors`` are, for the breakdown of the peak; the first word counts."""
        for tensor in tensors:
            known = self._known.get(id(tensor.untyped_storage()))
            if known:
                self._owners.setdefault(known[0], name)

    def peak(self) -> Tuple[int, str, Dict[str, int]]:
        """Bytes at the peak, its phase, and the terms that add up to it."""
        live = most = at = 0
        for index, (_, size) in enumerate(self.events):
            live += size
            if live > most:
                most, at = live, index
        phase = [name for start, name in self._phases if start <= at][-1]
        rest = "optimizer's copy" if phase == STEP else "activations"
        terms: Dict[str, int] = {}
        for number, size in self.events[: at + 1]:
            name = self._owners.get(number, rest)
            terms[name] = terms.get(name, 0) + size
        return most, phase, {name: size for name, size in terms.items() if size}
