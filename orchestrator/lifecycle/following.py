"""Bringing a run's logs and newest reading home while it runs, for whoever looks on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.base import Machine, RunStatus
from orchestrator.clock import Clock
from orchestrator.lifecycle.logs import LOGS
from orchestrator.records.tables import Attempt

CHUNK = 1 << 20

SHOWN_EVERY_SECONDS = 0.25
RATE_SECONDS = 5.0
"""The rate of a transfer is that of the last so many seconds."""

CHECKED_EVERY_BYTES = 8_000_000
"""A transfer is asked whether it may go on as often as it is shown, and after so much at the latest."""


def copy_logs(machine: Machine, key: str, folder: Path) -> int:
    """Append what is new; its bytes. The size of the copy is the only memory, so a restart goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    new = 0
    for name in LOGS:
        copy = folder / name
        with copy.open("ab") as file:
            while data := machine.read(f"{key}/{name}", file.tell(), CHUNK):
                file.write(data)
                new += len(data)
                if len(data) < CHUNK:
                    break
    return new


def write_live(path: Path, attempt: Attempt, status: RunStatus) -> None:
    """The newest reading of a run. Not a record: it may be lost."""
    wanted = (
        "ram_bytes", "peak_ram_bytes", "ram_total_bytes", "memory_cap_bytes", "memory_cap_means",
        "vram_bytes", "peak_vram_bytes", "vram_total_bytes", "cpu_percent", "gpu_percent", "setup_seconds",
    )  # fmt: skip
    reading = {name: status.record.get(name) for name in wanted}
    _replace(path, {**reading, "attempt": attempt.number, "variant": attempt.variant, "phase": status.phase.value})


def write_waiting(path: Path, attempt: Attempt, text: str) -> None:
    """What is waited for before a machine can be reached."""
    _replace(path, {"attempt": attempt.number, "variant": attempt.variant, "phase": "waiting", "waiting": text})


class Transfer:
    """The progress of something that is sent or fetched: shown with its rate while it is under way, counted in all.

    Call it with (bytes done, bytes in all), as backends do; a new beginning (fewer bytes than before) is a new part.
    ``check`` is called along the way with the bytes that its part still lacks, and ends the transfer by what it raises.
    """

    def __init__(self, path: Path, attempt: Attempt, what: str, clock: Clock, check: Callable[[int], None]) -> None:
        self._path = path
        self._reading = {"attempt": attempt.number, "variant": attempt.variant, "phase": what}
        self._clock = clock
        self._check = check
        self._shown = float("-inf")
        self._window = [(clock.monotonic(), 0)]
        self._before = self._part = self._checked = 0

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        return self._before + self._part

    def __call__(self, done: int, total: int) -> None:
        """See Progress."""
        if done < self._part:
            self._before += self._part
            self._checked = 0
            self._window = [(self._clock.monotonic(), 0)]
        self._part = done
        now = self._clock.monotonic()
        if now - self._shown < SHOWN_EVERY_SECONDS and done - self._checked < CHECKED_EVERY_BYTES:
            return
        self._shown, self._checked = now, done
        self._check(max(0, total - done))
        self._window = [seen for seen in self._window if now - seen[0] <= RATE_SECONDS] or self._window[-1:]
        began, first = self._window[0]
        self._window.append((now, done))
        rate = (done - first) / (now - began) if now > began else 0.0
        with suppress(OSError):  # no room to look on here must not end the transfer
            _replace(self._path, {**self._reading, "done": done, "total": total, "bytes_per_second": rate})


def _replace(path: Path, reading: Mapping[str, Any]) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(reading), encoding="utf-8")
    draft.replace(path)
