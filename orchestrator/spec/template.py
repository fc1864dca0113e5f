"""``{param}`` in commands and environment values.

``{name}`` is replaced and ``{{name}}`` stands for the text ``{name}``. Every other brace is left as it is:
``${HOME}``, ``{}``, ``{a,b}``, ``awk '{print $1}'`` and JSON pass through unharmed, and so do shell comments.
Values put into a command are quoted for the place where they stand, so that a value is never run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.spec.shell import Quoting, quoting

Value = str | int | float | bool
Values = Mapping[str, Value]

_WORD = r"[A-Za-z_][A-Za-z0-9_]*(?:[-.][A-Za-z0-9_]+)*"
_BRACED = re.compile(rf"(?<![${{])(?P<left>\{{+)(?P<word>{_WORD})(?P<right>\}}+)")
_BARE = re.compile(r"[A-Za-z0-9_@%+:,./-]+")
_VARIABLE = re.compile(r"\$[A-Za-z0-9_]*$")


@dataclass(frozen=True, slots=True)
class Use:
    """A parameter in a template. ``nth`` counts the same ``{word}`` before it; ``safe`` if it can be quoted."""

    word: str
    nth: int
    safe: bool


class UnsafePlaceError(ValueError):
    """A parameter stands where its value cannot be quoted with certainty."""


def rendered(value: Value) -> str:
    """``value`` as text: ``true``, ``0.1``, ``3``, or the string itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def fill_text(text: str, values: Values) -> str:
    """``text`` with its parameters replaced, as they are. Raises KeyError for one without a value."""
    return _BRACED.sub(lambda match: _replaced(match, lambda word: rendered(values[word])), text)


def fill_command(command: str, values: Values) -> str:
    """``command`` with its parameters replaced, shell-quoted. Raises KeyError or UnsafePlaceError."""
    places = quoting(command)

    def replace(match: re.Match[str]) -> str:
        place = places[match.start()]
        if place is Quoting.COMMENT:
            return match[0]
        return _replaced(match, lambda word: _quoted(rendered(values[word]), place, match))

    return _BRACED.sub(replace, command)


def uses(text: str, *, command: bool = False) -> list[Use]:
    """The parameters that ``text`` asks for, each where it is first met; in a command, none from comments."""
    places = quoting(text) if command else []
    first: dict[tuple[str, bool], int] = {}
    for match in _BRACED.finditer(text):
        place = places[match.start()] if command else Quoting.SINGLE
        if place is not Quoting.COMMENT and _is_parameter(match):
            first.setdefault((match["word"], place is not Quoting.UNKNOWN), match.start())
    return [Use(word, text.count(f"{{{word}}}", 0, start), safe) for (word, safe), start in first.items()]


def escape(text: str) -> str:
    """The template whose value is ``text``, braces and all."""
    return _BRACED.sub(lambda match: match["left"] * 2 + match["word"] + match["right"] * 2, text)


def _is_parameter(match: re.Match[str]) -> bool:
    return min(len(match["left"]), len(match["right"])) % 2 == 1


def _replaced(match: re.Match[str], value: Callable[[str], str]) -> str:
    """As in Python's format: two braces make one, and a brace left over on both sides makes a parameter."""
    left, right = match["left"], match["right"]
    pairs = min(len(left), len(right))
    inner = value(match["word"]) if _is_parameter(match) else match["word"]
    kept = pairs // 2
    return left[: len(left) - pairs] + "{" * kept + inner + "}" * kept + right[: len(right) - pairs]


def _quoted(value: str, place: Quoting, match: re.Match[str]) -> str:
    if place is Quoting.UNKNOWN:
        raise UnsafePlaceError(f"{match[0]} stands where its value cannot be quoted safely")
    inside = value.replace("'", "'\"'\"'")
    if place is Quoting.SINGLE:
        return inside
    start = match.start()
    # Right after `$name`, bare text would become part of the variable's name.
    if _BARE.fullmatch(value) and not _VARIABLE.search(match.string, max(0, start - 256), start):
        return value
    return f"'{inside}'" if place is Quoting.PLAIN else f"\"'{inside}'\""
