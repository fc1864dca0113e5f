"""When results and checkpoints of a run are to be brought away from a runtime that may vanish."""

from __future__ import annotations

import json
import time
from pathlib import Path


class Keeping:
    """``paths`` below the job's work folder, every so many seconds while it runs, and when it is over until all of it
    was brought as it is.
    """

    def __init__(self, paths: list[str], every: float) -> None:
        self.paths = paths
        self._every = every
        self._next = time.monotonic() + every
        self._whole = False

    @classmethod
    def asked_for_in(cls, job: Path) -> Keeping:
        """As the job's ``job.json`` says under ``keep``; nothing where it does not."""
        told = json.loads((job / "job.json").read_text(encoding="utf-8")).get("keep") or {}
        return cls([str(path) for path in told.get("paths", ())], float(told.get("every", 300)))

    def is_due(self, *, over: bool) -> bool:
        """Whether it is time; ``over`` says that the run has ended."""
        return not self._whole and (over or (bool(self.paths) and time.monotonic() >= self._next))

    def tried(self, *, whole: bool) -> None:
        """Brought as far as that went; ``whole`` says that nothing will ever be added."""
        self._whole, self._next = whole, time.monotonic() + self._every
