"""Requests to rent a pod whose answer nobody has heard: the pod may be there though no list shows it yet.

REST v2 takes no key that would make asking twice harmless, and how long its lists lag is not documented. So a mark is
on disk before a pod is asked for, and goes with a definite answer: a lost reply and our own death leave it alike.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from backends.base import BackendError, Lost
from backends.failpoints import failpoint
from backends.runpod.marks import ASKED_AT
from backends.runpod.replies import Pod
from backends.units import format_duration


class Unheard:
    """The marks of one home, one small file each. ``lag`` are the seconds after which lists show whatever there is."""

    def __init__(self, root: Path, lag: float) -> None:
        self._folder = root / "unheard"
        self._lag = lag

    @contextmanager
    def asking(self, key: str, asked_at: datetime) -> Iterator[None]:
        """While a pod for ``key`` is asked for; ``asked_at`` is what its environment will say."""
        self._mark(key, int(asked_at.timestamp()))
        failpoint("runpod.create:marked")
        try:
            yield
        except Lost:
            raise
        except BackendError:
            self.forget(key)
            raise
        self.forget(key)

    def doubt(self, key: str, now: Callable[[], datetime]) -> str:
        """Why there may be a pod that lists do not show yet, in words; empty where they show all that there is.

        To be asked before a list is read: one that was read before the time was up proves nothing.
        """
        asked_at = self._asked_at(key)
        if asked_at is None:
            return ""
        ago = max(0.0, now().timestamp() - asked_at)
        if ago >= self._lag:
            return ""
        return (
            f"a pod was asked for {format_duration(ago)} ago and RunPod's answer was not heard: it may be there, and "
            "cost money, though RunPod's list does not show it yet. It is looked for until "
            f"{format_duration(self._lag)} have passed"
        )

    def answered(self, key: str, pods: Iterable[Pod]) -> bool:
        """Whether nothing is unheard any more, since ``pods`` are there or nothing was asked for."""
        asked_at = self._asked_at(key)
        if asked_at is not None and str(asked_at) in (pod.env.get(ASKED_AT) for pod in pods):
            self.forget(key)
            return True
        return asked_at is None

    def forget(self, key: str) -> None:
        """It is known what became of the request."""
        self._path(key).unlink(missing_ok=True)

    def _asked_at(self, key: str) -> int | None:
        try:
            return int(json.loads(self._path(key).read_bytes())["asked_at"])
        except FileNotFoundError:
            return None

    def _mark(self, key: str, asked_at: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path(key).with_suffix(".draft")
        with draft.open("w", encoding="ascii") as file:
            json.dump({"asked_at": asked_at}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path(key))
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # a name that a power cut takes away is no mark
        finally:
            os.close(folder)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
