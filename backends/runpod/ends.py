"""How long each pod was held: noted when it is gone, since RunPod forgets a pod with its end."""

from __future__ import annotations

import json
from pathlib import Path


class Ends:
    """Notes of pods that are gone, one small file each, until they are accounted for."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "ended"

    def note(self, key: str, held_seconds: float) -> None:
        """Keep how long the pod of ``key`` was held; what was noted first stays."""
        if self.held_seconds(key) is not None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path(key).with_suffix(".draft")
        draft.write_text(json.dumps({"held_seconds": held_seconds}), encoding="utf-8")
        draft.replace(self._path(key))

    def held_seconds(self, key: str) -> float | None:
        """What was noted; None while the pod is not gone."""
        try:
            return float(json.loads(self._path(key).read_bytes())["held_seconds"])
        except FileNotFoundError:
            return None

    def forget(self, key: str) -> None:
        """It is accounted for."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
