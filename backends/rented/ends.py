"""How long each machine was held: noted when it is gone, since providers forget a machine with its end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


class Ends:
    """Notes of machines that are gone, one small file each, until they are accounted for."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "ended"

    def note(self, key: str, held_seconds: float) -> None:
        """Keep how long the machine of ``key`` was held; what was noted first stays."""
        if self.held_seconds(key) is None:
            self._write(self._path(key), held_seconds)

    def held_seconds(self, key: str) -> float | None:
        """What was noted; None while the machine is not gone."""
        try:
            return _held(self._path(key))
        except FileNotFoundError:
            return None

    def note_twin(self, key: str, machine_id: str, held_seconds: float) -> None:
        """Keep how long a machine was held that carried ``key`` as well; what is noted last counts."""
        self._write(self._folder / f"{key}.twin-{machine_id}.json", held_seconds)

    def twins_seconds(self, key: str) -> float:
        """How long all of them together were held."""
        return sum(_held(path) for path in self._twins(key))

    def forget(self, key: str) -> None:
        """It is accounted for."""
        for path in (self._path(key), *self._twins(key)):
            path.unlink(missing_ok=True)

    def _twins(self, key: str) -> Iterable[Path]:
        return self._folder.glob(f"{key}.twin-*.json")

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _write(self, path: Path, held_seconds: float) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps({"held_seconds": held_seconds}), encoding="utf-8")
        draft.replace(path)


def _held(path: Path) -> float:
    return float(json.loads(path.read_bytes())["held_seconds"])
