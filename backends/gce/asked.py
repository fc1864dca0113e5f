"""Where each machine was asked for: in which zone, when, and whether Google's answer was heard.

A mark is on disk before a zone is asked, and stays until the machine is gone, or was refused for certain. So a machine
is looked for in its own zone, by its own name, which never lags behind, and whoever asks again asks the same zone with
the same requestId: there is never a second one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from glob import escape
from pathlib import Path

from backends.durable import keep
from backends.failpoints import failpoint
from backends.units import format_duration


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine was asked for, and when by Google's clock, in seconds since 1970. ``heard``: it was made."""

    zone: str
    asked_at: int
    heard: bool = False


class Asked:
    """The marks of one home, one small file for each key and zone: whoever forgets one touches no other, which somebody
    else may have made meanwhile. ``lag`` are the seconds after which Google knows of every request.
    """

    def __init__(self, root: Path, lag: float) -> None:
        self._folder = root / "asked"
        self._lag = lag

    def mark(self, key: str, zone: str, asked_at: int) -> None:
        """A machine for ``key`` is about to be asked for. On disk for good when this returns."""
        keep(self._path(key, zone), json.dumps(asdict(Place(zone, asked_at))))
        failpoint("gce.create:marked")

    def heard(self, key: str, zone: str) -> None:
        """It was made."""
        place = self.place(key)
        if place and place.zone == zone:
            keep(self._path(key, zone), json.dumps(asdict(replace(place, heard=True))))

    def place(self, key: str) -> Place | None:
        """Where ``key``'s machine was asked for; None where none was, or where it is known that there is none."""
        for path in self._folder.glob(f"{escape(key)}@*.json"):
            with suppress(FileNotFoundError):
                return Place(**json.loads(path.read_bytes()))
        return None

    def all(self) -> list[str]:
        """The key of every machine that may be there."""
        return sorted({path.stem.rpartition("@")[0] for path in self._folder.glob("*@*.json")})

    def doubt(self, key: str, now: Callable[[], datetime]) -> str:
        """Why there may be a machine though Google knows of none yet, in words; empty where there can be none."""
        place = self.place(key)
        if place is None or place.heard:
            return ""
        ago = max(0.0, now().timestamp() - place.asked_at)
        if ago >= self._lag:
            return ""
        return (
            f"an instance was asked for in {place.zone} {format_duration(ago)} ago and Google's answer was not heard: "
            "the request may still be on its way, and what it makes costs money. It is looked for until "
            f"{format_duration(self._lag)} have passed"
        )

    def forget(self, key: str, zone: str) -> None:
        """The machine is gone from there, or there was never one."""
        self._path(key, zone).unlink(missing_ok=True)

    def _path(self, key: str, zone: str) -> Path:
        return self._folder / f"{key}@{zone}.json"
