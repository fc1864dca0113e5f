"""Requests to rent an instance whose answer nobody has heard: it may be there though no list shows it yet.

A mark with the zone is on disk before the zone is asked, and goes with a definite answer: a lost reply and our own
death leave it alike. Whoever asks again asks that zone first, with the same ClientToken: EC2 then gives the instance
that there is, or says that the token has been used. So there is never a second one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from backends.base import BackendError, Lost
from backends.durable import keep
from backends.failpoints import failpoint
from backends.units import format_duration

OLD_SECONDS = 3600.0
"""After which nobody asks again, and no list has left out for so long what is there."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked: where, and when by AWS's clock, in seconds since 1970."""

    region: str
    zone: str
    asked_at: int


class Asked:
    """The marks of one home, one small file each. ``lag`` are the seconds after which lists show whatever there is."""

    def __init__(self, root: Path, lag: float) -> None:
        self._folder = root / "asked"
        self._lag = lag

    @contextmanager
    def asking(self, key: str, question: Question) -> Iterator[None]:
        """While an instance for ``key`` is asked for."""
        keep(self._path(key), json.dumps(asdict(question)))
        failpoint("aws.create:marked")
        try:
            yield
        except Lost:
            raise
        except BackendError:
            self.forget(key)
            raise
        self.forget(key)

    def open_question(self, key: str) -> Question | None:
        """What was asked for ``key`` and never answered."""
        try:
            return Question(**json.loads(self._path(key).read_bytes()))
        except FileNotFoundError:
            return None

    def doubt(self, key: str, now: Callable[[], datetime]) -> str:
        """Why there may be an instance that lists do not show yet, in words; empty where they show all that there is.

        To be asked before a list is read: one that was read before the time was up proves nothing.
        """
        question = self.open_question(key)
        if question is None:
            return ""
        ago = max(0.0, now().timestamp() - question.asked_at)
        if ago >= self._lag:
            return ""
        return (
            f"an instance was asked for in {question.zone} {format_duration(ago)} ago and AWS's answer was not heard: "
            "it may be there, and cost money, though AWS's list does not show it yet. It is looked for until "
            f"{format_duration(self._lag)} have passed"
        )

    def forget_old(self, now: Callable[[], datetime]) -> None:
        """Drop the marks of attempts that were given up before anything came of their requests."""
        for path in self._folder.glob("*.json"):
            question = self.open_question(path.stem)
            if question and now().timestamp() - question.asked_at > OLD_SECONDS:
                self.forget(path.stem)

    def regions(self, now: Callable[[], datetime]) -> set[str]:
        """Where something may be there that lists do not show yet."""
        keys = [path.stem for path in self._folder.glob("*.json")]
        return {question.region for key in keys if self.doubt(key, now) and (question := self.open_question(key))}

    def forget(self, key: str) -> None:
        """It is known what became of the request."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


class UsedRegions:
    """The regions where this home has ever asked for anything: where to look for what is ours."""

    def __init__(self, root: Path) -> None:
        self._path = root / "regions.json"

    def all(self) -> list[str]:
        """Their names."""
        try:
            return [str(name) for name in json.loads(self._path.read_bytes())]
        except FileNotFoundError:
            return []

    def add(self, names: Iterable[str]) -> None:
        """On disk for good when this returns."""
        known = set(self.all())
        if not known >= set(names):
            keep(self._path, json.dumps(sorted(known | set(names))))
