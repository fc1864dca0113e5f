"""The logs of an attempt: which there are, and how they end. Light, since the commands that look need it too."""

from __future__ import annotations

from pathlib import Path

LOGS = ("setup.log", "preflight.log", "stdout.log", "stderr.log")
"""What an attempt writes to, in the order in which it is read."""

TAIL_BYTES = 64 * 1024


def log_tail(path: Path) -> bytes:
    """The end of a log, at most ``TAIL_BYTES``; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read()
    except FileNotFoundError:
        return b""
