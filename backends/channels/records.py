"""The runner's record as a machine tells it, made safe to reason with: the machine is not trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NUMBERS = ("_bytes", "_at", "_seconds", "_percent", "_count", "_code", "_pid")
"""How names of values end that are numbers, or null."""
ALSO_NUMBERS = frozenset({"pid", "signal", "heartbeat"})
TABLES = frozenset({"log_bytes", "versions"})
LONGEST_TEXT = 4096
MOST_VALUES = 256
FARTHEST = 1 << 62


def checked_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with null for every value that cannot be what its name says (docs/runner.md)."""
    names = [name for name in list(record)[:MOST_VALUES] if len(name) <= LONGEST_TEXT]
    return {name: _checked(name, record[name]) for name in names}


def _checked(name: str, value: Any) -> Any:
    if name in TABLES:
        return {key: _plain(each) for key, each in list(value.items())[:MOST_VALUES]} if type(value) is dict else None
    if name in ALSO_NUMBERS or name.endswith(NUMBERS):
        return _plain(value) if type(value) in (int, float) else None
    return _plain(value)


def _plain(value: Any) -> Any:
    """Text, cut to a length; a number that is one and not absurd; true, false or null."""
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float) and abs(value) < FARTHEST:
        return value
    return None
