"""What agents say of themselves in the mailbox, read with care: a runtime is not trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from backends.colab.agent.session import LEASE_SECONDS, PROTOCOL

MARGIN = timedelta(seconds=60)
"""Between the end of an agent's lease, when it ends its run, and when it is counted as gone."""
LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """One agent. Sizes in bytes; ``seen_at`` is when Drive had its last heartbeat, by Drive's clock."""

    id: str
    seen_at: datetime
    started_at: float
    root: str
    gpu: str
    gpu_count: int
    vram_bytes: int
    ram_bytes: int
    disk_bytes: int
    cpus: int
    lease: str | None
    nonce: str | None
    ended: str
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        """Whether it serves a job."""
        return self.lease is not None

    def alive(self, now: datetime) -> bool:
        """Whether it may still be there."""
        return not self.ended and now - self.seen_at < timedelta(seconds=LEASE_SECONDS) + MARGIN

    def described(self) -> str:
        """What it has, in words."""
        gpu = f"{self.gpu} with {self.vram_bytes / 1e9:.1f} GB" if self.gpu else "no GPU"
        return f"{gpu}, {self.ram_bytes / 1e9:.1f} GB of RAM, {self.disk_bytes / 1e9:.0f} GB of free disk"


def session_facts(text: bytes, seen_at: datetime) -> SessionFacts | None:
    """From an agent's file; None for one that is not what it should be, or of another version of the notebook."""
    try:
        said: dict[str, Any] = json.loads(text)
        if said["protocol"] != PROTOCOL:
            return None
        return SessionFacts(
            id=_word(said["id"]),
            seen_at=seen_at,
            started_at=float(said["started_at"]),
            root=_word(said["root"]),
            gpu=_word(said["gpu"] or ""),
            gpu_count=_count(said["gpu_count"]),
            vram_bytes=_count(said["vram_bytes"]),
            ram_bytes=_count(said["ram_bytes"]),
            disk_bytes=_count(said["disk_bytes"]),
            cpus=_count(said["cpus"]),
            lease=said["lease"] and _word(said["lease"]),
            nonce=said["nonce"] and _word(said["nonce"]),
            ended=_word(said["ended"]),
            refused={_word(nonce): _word(why) for nonce, why in said["refused"].items()},
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def greeted(said: dict[str, Any], name: str, now: datetime) -> SessionFacts:
    """A runtime as its desk describes it. Raises ValueError for what cannot be."""
    try:
        return SessionFacts(
            id=name, seen_at=now, started_at=now.timestamp(), root=_word(said["root"]), gpu=_word(said["gpu"] or ""),
            gpu_count=_count(said["gpu_count"]), vram_bytes=_count(said["vram_bytes"]),
            ram_bytes=_count(said["ram_bytes"]), disk_bytes=_count(said["disk_bytes"]), cpus=_count(said["cpus"]),
            lease=None, nonce=None, ended="",
        )  # fmt: skip
    except (LookupError, TypeError) as error:
        raise ValueError(str(error)) from error


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return "".join(sign for sign in value[:LONGEST_TEXT] if sign.isprintable())


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(value)
    return value
