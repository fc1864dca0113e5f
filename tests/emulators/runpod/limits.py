"""Rate limits by fixed windows, and the headers that tell of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.emulators.runpod.problems import Problem

WINDOWS = {"minute": 60, "hour": 3600, "day": 86400}
DOCUMENTED = {"minute": 60, "hour": 3000, "day": 50000}
"""The quotas of the documentation's example."""
ROOMY = {"minute": 6000, "hour": 100_000, "day": 1_000_000}
"""Quotas that a test which polls quickly does not meet."""


@dataclass
class RateLimit:
    """Counts one caller's requests. ``quotas`` by window may be changed at any time."""

    quotas: dict[str, int] = field(default_factory=lambda: dict(ROOMY))
    _counts: dict[str, tuple[float, int]] = field(default_factory=dict)

    def count(self, now: float) -> None:
        """Take one request. Raises Problem 429 when a window is full; a refused one is not counted."""
        for window, quota in self.quotas.items():
            _, used = self._window(window, now)
            if used >= quota:
                wait = self._resets_in(window, now)
                raise Problem(429, f"rate limit exceeded for the {window} window", headers={"Retry-After": str(wait)})
        for window in self.quotas:
            start, used = self._window(window, now)
            self._counts[window] = (start, used + 1)

    def headers(self, now: float) -> dict[str, str]:
        """RateLimit and RateLimit-Policy."""
        left = [
            f'"{window}";r={max(0, quota - self._window(window, now)[1])};t={self._resets_in(window, now)}'
            for window, quota in self.quotas.items()
        ]
        policy = [f'"{window}";q={quota};w={WINDOWS[window]}' for window, quota in self.quotas.items()]
        return {"RateLimit": ", ".join(left), "RateLimit-Policy": ", ".join(policy)}

    def _window(self, window: str, now: float) -> tuple[float, int]:
        start, used = self._counts.get(window, (now, 0))
        return (now, 0) if now >= start + WINDOWS[window] else (start, used)

    def _resets_in(self, window: str, now: float) -> int:
        return max(1, math.ceil(self._window(window, now)[0] + WINDOWS[window] - now))
