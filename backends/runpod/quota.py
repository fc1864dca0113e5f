"""RunPod's rate limit, kept by all jobs of one process together: nobody sends what would only be refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from backends.base import Transient

_WINDOW = re.compile(r'"(\w+)"((?:\s*;\s*\w+=\d+)+)')
_NUMBER = re.compile(r"(\w+)=(\d+)")

KEPT_SHARE, MOST_KEPT = 0.1, 5
"""Of each window so much is kept for giving machines back, which must not wait behind reading."""


@dataclass(slots=True)
class _Window:
    left: int
    ends: float
    kept: int = 0


class Quota:
    """What is left of each window, by the ``RateLimit`` headers of the replies. Threads share one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._windows: dict[str, _Window] = {}
        self._closed_until = 0.0

    def take(self, *, urgent: bool = False) -> None:
        """Count one call. Raises Transient with the seconds to wait where none is left; nothing was counted then."""
        with self._lock:
            now = self._clock()
            used_up = [w.ends for w in self._windows.values() if w.ends > now and w.left <= (0 if urgent else w.kept)]
            if (wait := max([self._closed_until, *used_up]) - now) > 0:
                raise Transient(f"RunPod's rate limit allows the next call in {wait:.0f} s", retry_after=wait)
            for window in self._windows.values():
                window.left -= 1

    def learn(self, headers: Mapping[str, str], retry_after: float | None) -> None:
        """Take over what a reply says is left; ``retry_after`` seconds from now nothing is sent at all."""
        quotas = {name: values.get("q", 0) for name, values in _windows(headers.get("ratelimit-policy", ""))}
        with self._lock:
            now = self._clock()
            if retry_after is not None:
                self._closed_until = max(self._closed_until, now + retry_after)
            for name, values in _windows(headers.get("ratelimit", "")):
                kept = min(MOST_KEPT, int(quotas.get(name, 0) * KEPT_SHARE))
                self._windows[name] = _Window(values.get("r", 0), now + values.get("t", 0), kept)


def _windows(header: str) -> list[tuple[str, dict[str, int]]]:
    """``"minute";r=0;t=12, "hour";r=2800;t=1812`` as pairs of a name and its numbers."""
    return [
        (match[1], {name: int(number) for name, number in _NUMBER.findall(match[2])})
        for match in _WINDOW.finditer(header)
    ]
