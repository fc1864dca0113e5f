"""What a setting is. A backend of one's own declares its settings by the entry point ``gpujob.settings``: a mapping of
names, without the backend's own in front, to these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backends.units import format_size, parse_size


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set: how its text is read, how it is shown, and what it is without being set.

    ``parse`` raises ValueError with what is possible. What ``show`` gives can be parsed.
    """

    help: str
    default: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str


def yes_or_no(text: str) -> bool:
    """Whether it is yes. Raises ValueError."""
    if text not in ("yes", "no"):
        raise ValueError(f"{text!r} is neither yes nor no")
    return text == "yes"


def shown_yes_or_no(value: bool) -> str:
    """What ``yes_or_no`` reads."""
    return "yes" if value else "no"


def size_or_none(text: str) -> int | None:
    """A size in bytes, or None for ``none``. Raises ValueError."""
    return None if text == "none" else parse_size(text)


def shown_size_or_none(value: int | None) -> str:
    """What ``size_or_none`` reads."""
    return "none" if value is None else format_size(value)
