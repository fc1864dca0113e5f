"""An emulator's clock: the real time, moved on by tests that cannot wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """Seconds since the epoch. ``skew`` is what the provider's clock shows wrongly; billing does not see it."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self.skew = 0.0
        self.listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """True time."""
        return time.time() + self._ahead

    def shown(self) -> float:
        """Time as the provider's answers tell it."""
        return self.now() + self.skew

    def advance(self, seconds: float) -> None:
        """Let time pass for billing, rate limits and balances; processes and delays are not hurried."""
        self._ahead += seconds
        for listener in self.listeners:
            listener()


def rfc3339(moment: float) -> str:
    """UTC with milliseconds."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.timestamp()
