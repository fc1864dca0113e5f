"""What the adapters have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.base import Backend, Need


@dataclass(frozen=True)
class Bench:
    """One check's folder, environment, and whether it needs machines that really run."""

    folder: Path
    patch: pytest.MonkeyPatch
    machines: bool


class Adapter:
    """A provider without any fault: an adapter says what it can do, and in ``unfit`` what does not fit it."""

    name = ""
    need = Need()
    unfit: Mapping[str, str] = {}
    ends_alone = ""
    least_seconds = 0.0
    secrets: Sequence[str] = ()

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def backend(self, home: str = "home") -> Backend:
        raise NotImplementedError

    def unready(self) -> Backend:
        raise NotImplementedError

    def by_default(self) -> Backend:
        return self.backend()

    def machines(self) -> Sequence[str]:
        raise NotImplementedError

    def leftovers(self) -> Sequence[str]:
        return ()

    def stranger(self, key: str) -> str:
        raise NotImplementedError

    def vanish(self, machine: str) -> None:
        raise NotImplementedError

    def lose_reply(self) -> None:
        raise NotImplementedError

    def lag(self) -> None:
        raise NotImplementedError

    def no_capacity(self) -> None:
        raise NotImplementedError

    def never_reachable(self) -> None:
        raise NotImplementedError

    def raise_price(self) -> None:
        raise NotImplementedError

    def seen(self) -> str:
        return ""
