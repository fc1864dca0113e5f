"""Bringing a run's logs and newest reading home while it runs, for whoever looks on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backends.base import Machine, RunStatus
from orchestrator.lifecycle.logs import LOGS
from orchestrator.records.tables import Attempt

CHUNK = 1 << 20


def copy_logs(machine: Machine, key: str, folder: Path) -> None:
    """Append what is new. The size of the copy is the only memory, so a restart goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in LOGS:
        copy = folder / name
        with copy.open("ab") as file:
            while data := machine.read(f"{key}/{name}", file.tell(), CHUNK):
                file.write(data)
                if len(data) < CHUNK:
                    break


def write_live(path: Path, attempt: Attempt, status: RunStatus) -> None:
    """The newest reading, replaced in one step. Not a record: it may be lost."""
    wanted = (
        "ram_bytes", "peak_ram_bytes", "ram_total_bytes", "memory_cap_bytes", "memory_cap_means",
        "vram_bytes", "peak_vram_bytes", "vram_total_bytes", "cpu_percent", "gpu_percent", "setup_seconds",
    )  # fmt: skip
    reading: dict[str, Any] = {name: status.record.get(name) for name in wanted}
    reading |= {"attempt": attempt.number, "variant": attempt.variant, "phase": status.phase.value}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(reading), encoding="utf-8")
    draft.replace(path)
