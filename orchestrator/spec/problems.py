"""What can be wrong with a spec, and how it is said: one line each, with the place to mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

Place = tuple[str | int, ...]
"""The way from the top of a spec to one value: ``("variants", 0, "name")``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. ``line`` counts from 1; None where the problem has no line of its own."""

    message: str
    file: str
    line: int | None = None
    hint: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}" + (f"\n    {self.hint}" if self.hint else "")


class SpecError(Exception):
    """The spec cannot be used. ``problems`` holds every reason found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem before its line is known.

    ``on_key`` points at the key instead of its value. ``quote`` is the piece of a long value that is meant:
    its occurrence after ``nth`` others.
    """

    place: Place
    message: str
    hint: str = ""
    on_key: bool = False
    quote: str = ""
    nth: int = 0


def dotted(place: Place) -> str:
    """``("variants", 0, "name")`` as people write it: ``variants[0].name``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.removeprefix(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"did you mean 'ram'?"``, or an empty string where nothing known is near."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""
