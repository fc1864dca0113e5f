"""A value that is read again only when it is too old: shared by the threads of one process."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Recent(Generic[T]):
    """Holds the last reading of something for ``seconds``. Whoever finds it too old reads it, and the others wait."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        self._held: tuple[float, T] | None = None

    def get(self, read: Callable[[], T]) -> T:
        """The value, read anew if it is too old."""
        with self._lock:
            if self._held and self._clock() - self._held[0] < self._seconds:
                return self._held[1]
            return self._read(read)

    def fresh(self, read: Callable[[], T]) -> T:
        """The value, read anew."""
        with self._lock:
            return self._read(read)

    def _read(self, read: Callable[[], T]) -> T:
        value = read()
        self._held = (self._clock(), value)
        return value


class Readings:
    """Several of them, by name, each read anew when it is older than ``seconds``."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        self._held: dict[tuple[str, ...], Recent[Any]] = {}

    def get(self, name: tuple[str, ...], read: Callable[[], T]) -> T:
        """The value of that name; ``read`` must read the same thing every time."""
        with self._lock:
            held = self._held.setdefault(name, Recent(self._seconds, self._clock))
        return cast("T", held.get(read))
