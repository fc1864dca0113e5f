"""Whoever waits for a job makes sure that a worker is alive to carry it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from orchestrator.cli.screen import dim, warned
from orchestrator.cli.tails import last_lines_of
from orchestrator.home import Home
from orchestrator.lifecycle.waking import ensure_worker, worker_runs

WAKE_SECONDS = 2.0

WAKES_BEFORE_WORD = 4
"""After so many in vain, it is said what the last worker said."""


@dataclass
class Waker:
    """Starts a worker where none is alive, every two seconds at most."""

    home: Home
    _looked: float = field(default_factory=time.monotonic)
    _wakes: int = 0

    def look(self) -> str:
        """Make sure of a worker, if it is time to. Returns what to tell where none stays alive, and else nothing."""
        if time.monotonic() - self._looked < WAKE_SECONDS:
            return ""
        self._looked = time.monotonic()
        if worker_runs(self.home):
            self._wakes = 0
            return ""
        self._wakes += 1
        ensure_worker(self.home)
        return self._last_words() if self._wakes == WAKES_BEFORE_WORD else ""

    def _last_words(self) -> str:
        said = last_lines_of(self.home.worker_log, 3) or ["it said nothing"]
        head = f"  {warned('!')} no worker stays alive to carry the job; the last one said:"
        return "\n".join([head, *(dim(f"      {line}") for line in said)])
