"""What the adapters have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.base import Backend, Need
from backends.testing.provider import CannotMake


@dataclass(frozen=True)
class Bench:
    """One check's folder, environment, and whether it needs machines that really run."""

    folder: Path
    patch: pytest.MonkeyPatch
    machines: bool


class Adapter(ABC):
    """A provider without any fault: an adapter says what it can do, and in ``unfit`` what does not fit it."""

    name = ""
    need = Need()
    unfit: Mapping[str, str] = {}
    ends_alone = ""
    least_seconds = 0.0
    secrets: Sequence[str] = ()

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @abstractmethod
    def backend(self, home: str = "home") -> Backend:
        """See Provider."""

    def unready(self) -> Backend:
        raise CannotMake

    def by_default(self) -> Backend:
        return self.backend()

    @abstractmethod
    def machines(self) -> Sequence[str]:
        """See Provider."""

    def leftovers(self) -> Sequence[str]:
        return ()

    def stranger(self, key: str) -> str:
        raise CannotMake

    def vanish(self, machine: str) -> None:
        raise CannotMake

    def lose_reply(self) -> None:
        raise CannotMake

    def lag(self) -> None:
        raise CannotMake

    def no_capacity(self) -> None:
        raise CannotMake

    def never_reachable(self) -> None:
        raise CannotMake

    def raise_price(self) -> None:
        raise CannotMake

    def seen(self) -> str:
        return ""
