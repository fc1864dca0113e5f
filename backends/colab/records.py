"""What this computer remembers of its claims: after a crash Drive's lagging lists are not asked what it was doing."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from backends.durable import keep

WEEK = 7 * 86400.0
ON_ITS_WAY = 300.0
"""Seconds after which a claim that no session has taken keeps that session from nothing else."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One lease: whom it was given to. Times are Unix seconds by Drive's clock, or by this computer's where the road is
    Google's command; 0 while not yet. ``folder`` is what there is at Google: a folder on Drive, or a runtime.
    """

    key: str
    offer: str
    agent: str
    nonce: str
    ends_at: float
    units_per_hour: float = 0.0
    micros_per_hour: int = 0
    root: str = ""
    gpu_count: int = 0
    folder: str = ""
    began: float = 0.0
    ended: float = 0.0
    taken: bool = False
    asked: int = 0
    """The number of the last request."""
    made: float = 0.0
    """When it was noted, by this computer's clock."""
    road: str = "notebook"
    needs: dict[str, int] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    """The runtimes that were there when this one was asked for."""
    ends_itself: str = ""
    """The shell command that ends the runtime from inside."""


class Records:
    """The claims of one home, a file each, written before Drive hears of them; and what was used."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "claims"

    def get(self, key: str) -> Claim | None:
        """The claim of ``key``."""
        try:
            return Claim(**json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def all(self) -> Iterator[Claim]:
        """Every claim that is remembered."""
        for path in sorted(self._folder.glob("*.json")):
            if claim := self.get(path.stem):
                yield claim

    def put(self, claim: Claim) -> Claim:
        """Remember it, for good when this returns."""
        keep(self._folder / f"{claim.key}.json", json.dumps(asdict(claim)))
        return claim

    def change(self, key: str, **fields: object) -> Claim:
        """Change what is remembered of ``key``."""
        claim = self.get(key)
        assert claim is not None
        return self.put(replace(claim, **fields))  # type: ignore[arg-type]

    def drop(self, key: str) -> None:
        """Nothing was had by it."""
        (self._folder / f"{key}.json").unlink(missing_ok=True)

    def forget(self, key: str) -> None:
        """It is accounted for."""
        self.drop(key)
        self._asked(key).unlink(missing_ok=True)

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """Held while a session is chosen and noted, over threads and processes: it goes to one job only."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._root / "choosing.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def just_given(self) -> set[str]:
        """The sessions that have a job on its way to them."""
        now = time.time()
        return {each.agent for each in self.all() if not each.ended and not each.taken and now - each.made < ON_ITS_WAY}

    def waiting_since(self, key: str) -> float:
        """When ``key`` first asked for a session (Unix seconds), noted by the first call."""
        path = self._asked(key)
        if not path.exists():
            keep(path, "")
        return path.stat().st_mtime

    def note_used(self, offer: str, seconds: float, units: float, at: float) -> None:
        """A lease is over: what it took of the week's hours and of the balance."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._root / "used.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"offer": offer, "seconds": seconds, "units": units, "at": at}) + "\n")

    def used(self) -> list[dict[str, float | str]]:
        """Every lease that is over, the oldest first."""
        with suppress(FileNotFoundError):
            lines = (self._root / "used.jsonl").read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines if line.endswith("}")]
        return []

    def owner(self) -> str:
        """This home's own word, which marks its claims."""
        path = self._root / "owner"
        with suppress(FileNotFoundError):
            return path.read_text(encoding="ascii")
        draft = self._root / f"owner.{os.getpid()}.{secrets.token_hex(4)}"
        keep(draft, secrets.token_hex(8))
        with suppress(FileExistsError):  # another worker was faster: its word counts
            os.link(draft, path)
        draft.unlink()
        return path.read_text(encoding="ascii")

    def accepted(self) -> bool:
        """Whether the terms were agreed to."""
        return (self._root / "terms-accepted").exists()

    def accept(self, text: str) -> None:
        """The terms were agreed to, with this text."""
        keep(self._root / "terms-accepted", f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}\n")

    def _asked(self, key: str) -> Path:
        return self._root / "waiting" / key
