"""The last lines of logs, safe to show."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli.screen import plain
from orchestrator.text import TerminalText

NAMES = ("setup.log", "stdout.log", "stderr.log")
"""What an attempt writes to, in the order in which it is read."""

_TAIL_BYTES = 64 * 1024


def last_lines(folder: Path, count: int) -> list[str]:
    """The last lines that a run wrote, errors after output."""
    return [line for name in NAMES for line in last_lines_of(folder / name, count)][-count:]


def last_lines_of(path: Path, count: int) -> list[str]:
    """The last lines of one file that are not empty; none if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = TerminalText()(file.read(), last=True)
    except FileNotFoundError:
        return []
    return [plain(line) for line in text.splitlines() if line.strip()][-count:]
