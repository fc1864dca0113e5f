"""Requests to rent whose answer nobody has heard: the machine may be there though no list shows it yet.

For providers that take no key which would make asking twice harmless, and do not say how long their lists lag. So a
mark is on disk before a machine is asked for, and goes with a definite answer: a lost reply and our own death leave it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from backends.base import BackendError, Lost
from backends.durable import keep
from backends.failpoints import failpoint
from backends.units import format_duration


class Unheard:
    """The marks of one home at ``provider``, one small file each. ``lag`` are the seconds after which its lists show
    whatever there is; ``what`` it rents out is for the messages.
    """

    def __init__(self, root: Path, lag: float, what: str, provider: str) -> None:
        self._folder = root / "unheard"
        self._lag = lag
        self._what = what
        self._provider = provider

    @property
    def any(self) -> bool:
        """Whether any request is unheard, or under way."""
        return next(self._folder.glob("*.json"), None) is not None

    @contextmanager
    def asking(self, key: str, asked_at: datetime) -> Iterator[None]:
        """While a machine for ``key`` is asked for; ``asked_at``, in whole seconds, is what it will say itself."""
        keep(self._path(key), json.dumps({"asked_at": int(asked_at.timestamp())}))
        failpoint("unheard:marked")
        try:
            yield
        except Lost:
            raise
        except BackendError:
            self.forget(key)
            raise
        self.forget(key)

    def doubt(self, key: str, now: Callable[[], datetime]) -> str:
        """Why there may be a machine that lists do not show yet, in words; empty where they show all that there is.

        To be asked before a list is read: one that was read before the time was up proves nothing.
        """
        asked_at = self._asked_at(key)
        if asked_at is None:
            return ""
        ago = max(0.0, now().timestamp() - asked_at)
        if ago >= self._lag:
            return ""
        who = self._provider
        return (
            f"{self._what} was asked for {format_duration(ago)} ago and {who}'s answer was not heard: it may be there, "
            f"and cost money, though {who}'s list does not show it yet. It is looked for until "
            f"{format_duration(self._lag)} have passed"
        )

    def answered(self, key: str, there: Iterable[int]) -> bool:
        """Whether nothing is unheard any more: machines are there that were asked for at ``there``, or none was."""
        asked_at = self._asked_at(key)
        if asked_at is not None and asked_at in there:
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

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
