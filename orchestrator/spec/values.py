"""The checks behind a spec's values, and what each says when a value is wrong.

Every check takes what YAML or JSON holds and raises WrongValueError in plain words. No message repeats a
credential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BeforeValidator

from backends.units import format_size, parse_duration, parse_size
from orchestrator.spec.credentials import credential_kind

MAX_SIZE = 10**18
MAX_SECONDS = 366 * 86400.0

_HOLDS: dict[str, Callable[[int, int], bool]] = {">=": ge, "<=": le, ">": gt, "<": lt}
_COMPARISON = re.compile(r"\s*(>=|<=|>|<)\s*(.+)", re.DOTALL)


class WrongValueError(ValueError):
    """A value that a spec cannot have; its text says why and what to write."""


def shown(value: object) -> str:
    """``value`` for a message: cut short, and never a credential."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if credential_kind(text):
        return "(hidden)"
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return repr(short) if isinstance(value, str) else short


def described(value: object) -> str:
    """What kind of thing was written instead of what was wanted."""
    if value is None:
        return "there is no value"
    if isinstance(value, bool):
        return f"{shown(value)} is a yes-or-no value"
    if isinstance(value, int | float):
        return f"{shown(value)} is a number"
    if isinstance(value, str):
        return f"{shown(value)} is text"
    return "this is a list" if isinstance(value, list | tuple) else "this is a mapping (key: value)"


def as_text(value: object) -> str:
    """Text that says something."""
    if not isinstance(value, str):
        quotes = ", in quotes" if isinstance(value, int | float) else ""
        raise WrongValueError(f"{described(value)}; write text{quotes}")
    if not value.strip():
        raise WrongValueError("the text is empty")
    if "\0" in value:
        raise WrongValueError("the text contains a NUL character; remove it")
    return value


def matching(pattern: str, advice: str, flags: int = re.ASCII) -> Callable[[object], str]:
    """A check for text that matches ``pattern`` from end to end; ``advice`` ends the message for one that does not."""
    compiled = re.compile(pattern, flags)

    def check(value: object) -> str:
        text = as_text(value)
        if not compiled.fullmatch(text):
            raise WrongValueError(f"{shown(text)} {advice}")
        return text

    return check


def as_size(value: object) -> int:
    """Bytes, from text with a unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise WrongValueError(f"{value} has no unit; write {value} MB or {value} GB")
    text = as_text(value)
    count = parse_size(text) if len(text) <= 40 else MAX_SIZE + 1
    if not 0 < count <= MAX_SIZE:
        raise WrongValueError(f"{shown(text)} is not a possible size; it must be more than 0 and at most 10^6 TB")
    return count


def as_size_or_auto(value: object) -> int | None:
    """Bytes, or None for ``auto``."""
    return None if value is None or value == "auto" else as_size(value)


def as_seconds(value: object) -> float:
    """Seconds, from text with units."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise WrongValueError(f"{value} has no unit; write {value}s, {value}m or {value}h")
    text = as_text(value)
    if text.strip().isdigit():
        raise WrongValueError(f"{shown(text)} has no unit; write {text.strip()}s, {text.strip()}m or {text.strip()}h")
    seconds = parse_duration(text) if len(text) <= 40 else MAX_SECONDS + 1
    if not 1 <= seconds <= MAX_SECONDS:
        raise WrongValueError(f"{shown(text)} is not a possible limit; it must be between 1s and 366d")
    return seconds


def whole(low: int, high: int) -> BeforeValidator:
    """A whole number from ``low`` to ``high``."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise WrongValueError(f"{described(value)}; write a whole number, such as {low}")
        if not low <= value <= high:
            raise WrongValueError(f"{shown(value)} is out of range; it must be from {low} to {high}")
        return value

    return BeforeValidator(check)


def number(above: float, most: float) -> BeforeValidator:
    """A number that is more than ``above`` and at most ``most``."""

    def check(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise WrongValueError(f"{described(value)}; write a number")
        if not above < value <= most:
            raise WrongValueError(f"{shown(value)} is out of range; it must be more than {above:g}, at most {most:g}")
        return float(value)

    return BeforeValidator(check)


def _relative_path(value: object) -> str:
    text = as_text(value)
    path = PurePosixPath(text)
    if path.is_absolute() or text.startswith("~") or re.match(r"[A-Za-z]:", text):
        raise WrongValueError(f"{shown(text)} is an absolute path; write one relative to workdir, such as results/")
    if ".." in path.parts:
        raise WrongValueError(f"{shown(text)} leaves workdir; a path must not contain '..'")
    if "\\" in text or not text.isprintable():
        raise WrongValueError(f"{shown(text)} contains a character no path may have here; write folders with /")
    return f"{path}/" if text.endswith("/") else str(path)


def as_output_path(value: object) -> str:
    """A file or folder in workdir that the job writes, without a slash at its end."""
    path = _relative_path(value).rstrip("/")
    if path == ".":
        raise WrongValueError(f"{shown(value)} is workdir itself; name a file or folder in it, such as results/")
    if any(mark in path for mark in "*?["):
        raise WrongValueError(f"{shown(value)} is a pattern; name the file or the folder itself, such as results/")
    return path


def as_input_path(value: object) -> str:
    """A file or folder in workdir; a slash at its end is kept, for it says folder."""
    path = _relative_path(value)
    if path in (".", "./"):
        raise WrongValueError(f"{shown(value)} is workdir itself; name a file or folder in it, such as models/")
    return path


def as_folder(value: object) -> Path:
    """A path of this computer, as text or already as one."""
    return value if isinstance(value, Path) else Path(as_text(value))


def as_source(value: object) -> str:
    """An http(s) address, or the path of a file in workdir."""
    text = as_text(value).strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        return as_input_path(text)
    if scheme not in ("https", "http"):
        raise WrongValueError(f"{shown(text)} cannot be fetched; write an https:// address or a path in workdir")
    if not rest.strip("/") or any(character.isspace() for character in rest):
        raise WrongValueError(f"{shown(text)} is not a complete address; write https://host/path, without spaces")
    return text


def as_list(value: object) -> list[Any]:
    """A list as it is, and nothing as an empty one."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        example = f", such as [{value}]" if isinstance(value, str) and len(value) < 30 else ""
        raise WrongValueError(f"{described(value)}; write a list{example}")
    return list(value)


def as_mapping(value: object) -> dict[str, Any]:
    """A mapping as it is, and nothing as an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise WrongValueError(f"{described(value)}; write a mapping, such as {{key: value}}")
    return dict(value)


def as_env_value(value: object) -> str:
    """Text, empty or not; a whole number is taken as its digits."""
    if isinstance(value, bool | float):
        quoted = f'"{str(value).lower()}"'
        raise WrongValueError(f"{described(value)}, and environment values are text; write it in quotes: {quoted}")
    text = str(value) if isinstance(value, int) else value
    return "" if text == "" else as_text(text)


def as_param(value: object) -> str | int | float | bool:
    """Text, a number, true or false."""
    if not isinstance(value, str | int | float):
        raise WrongValueError(f"{described(value)}; a parameter is text, a number, true or false")
    return "" if value == "" else as_text(value) if isinstance(value, str) else value


def choice(*known: str) -> Callable[[object], str]:
    """A check for one of the words ``known``."""
    listed = " or ".join(known)

    def check(value: object) -> str:
        if value not in known:
            raise WrongValueError(f"{shown(value)} is not known here; write {listed}")
        return str(value)

    return check


@dataclass(frozen=True, slots=True)
class Comparison:
    """A bound on a size: ``>= 35 GB``."""

    operator: str
    size: int

    def holds(self, count: int) -> bool:
        """Whether ``count`` bytes keep to the bound."""
        return _HOLDS[self.operator](count, self.size)

    def __str__(self) -> str:
        return f"{self.operator} {format_size(self.size)}"


def as_bound(value: object) -> Comparison:
    """A bound on a size, from text such as ``>=35 GB``."""
    match = _COMPARISON.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise WrongValueError(f'{described(value)}; write a bound in quotes, such as ">=35 GB" or "<16 GB"')
    return Comparison(match[1], as_size(match[2]))
