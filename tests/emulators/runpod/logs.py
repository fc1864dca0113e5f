"""A pod's log lines, and waiting for more."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

MOST_LINES = 5000
Source = Literal["container", "system"]


@dataclass(frozen=True)
class Line:
    """One line; ``number`` counts all lines of the pod, ``moment`` is when it came."""

    number: int
    moment: float
    source: Source
    text: str


class Logs:
    """The newest lines of both sources."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=MOST_LINES)
        self._count = 0
        self._more = threading.Condition()
        self._closed = False

    def add(self, moment: float, source: Source, text: str) -> None:
        """Append a line."""
        with self._more:
            self._count += 1
            self._lines.append(Line(self._count, moment, source, text))
            self._more.notify_all()

    def after(self, number: int) -> list[Line]:
        """The lines that came after line ``number``."""
        with self._more:
            return [line for line in self._lines if line.number > number]

    def wait(self, number: int, seconds: float) -> bool:
        """Wait for a line after ``number``; False when the logs are closed."""
        with self._more:
            self._more.wait_for(lambda: self._count > number or self._closed, seconds)
            return not self._closed

    def close(self) -> None:
        """No more lines come: streams end."""
        with self._more:
            self._closed = True
            self._more.notify_all()
