"""The last lines of logs, safe to show."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli.screen import plain
from orchestrator.lifecycle.logs import LOGS, log_tail
from orchestrator.text import TerminalText


def last_lines(folder: Path, count: int) -> list[str]:
    """The last lines that a run wrote, errors after output."""
    return [line for name in LOGS for line in last_lines_of(folder / name, count)][-count:]


def last_lines_of(path: Path, count: int) -> list[str]:
    """The last lines of one file that are not empty; none if there is no file."""
    return last_lines_in(log_tail(path), count)


def last_lines_in(data: bytes, count: int) -> list[str]:
    """The last lines of what a program wrote that are not empty."""
    text = TerminalText()(data, last=True)
    return [plain(line) for line in text.splitlines() if line.strip()][-count:]
