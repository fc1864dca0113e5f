"""What the terminal shows: tables, a little colour, and one line that changes in place."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.text import without_escapes

BAR_WIDTH = 24

ROOM_FOR_LAST, MIN_LAST = 24, 12
"""Characters of a table's last column: with fewer, spare columns give way to it; to no fewer is it ever cut."""


def is_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


def show_what_can_be_shown() -> None:
    """Print ``?`` for what the terminal's encoding lacks, instead of failing: bars and marks are not ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: str = "") -> None:
    """A line on standard output, there at once."""
    print(text, flush=True)


def say_json(value: Any) -> None:
    """A value for programs."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def complain(text: str) -> None:
    """Why something was refused, on standard error."""
    print(f"gpujob: {text}", file=sys.stderr, flush=True)


def ask(question: str) -> str:
    """A person's answer. The question goes to standard error, so that output for programs stays whole."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def counted(number: int, thing: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def bold(text: str) -> str:
    """Emphasis."""
    return _styled("1", text)


def dim(text: str) -> str:
    """Of lesser weight."""
    return _styled("2", text)


def good(text: str) -> str:
    """Went well."""
    return _styled("32", text)


def bad(text: str) -> str:
    """Went wrong."""
    return _styled("31", text)


def warned(text: str) -> str:
    """Needs a look."""
    return _styled("33", text)


def _styled(code: str, text: str) -> str:
    if not is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def plain(text: str) -> str:
    """Text from a job or a provider without control characters: it must not drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in without_escapes(text))


def one_line(text: str) -> str:
    """The same for a name or a cell, which has its line for itself: a newline or tab in it is shown as ``?`` too."""
    return plain(text).replace("\n", "?").replace("\t", "?")


def wrapped(text: str, indent: int, hang: int = 0) -> str:
    """A paragraph as wide as the terminal allows, in ``indent`` spaces; its further lines in ``hang`` more.

    Nothing is cut, and no word is broken, so that a path can be copied.
    """
    width = max(60, min(110, shutil.get_terminal_size().columns))
    first, rest = " " * indent, " " * (indent + hang)
    return textwrap.fill(
        plain(text), width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Collection[str] = (),
    indent: int = 0,
    spare: Sequence[str] = (),
    *,
    whole: bool = False,
) -> str:
    """Columns as wide as they need. On a terminal that is too narrow those named ``spare`` are left out, one after the
    other, before the last column is cut, or is continued below itself where it must be seen ``whole``. ``right`` names
    the columns that are aligned at their right.
    """
    lines = [tuple(headers), *(tuple(map(one_line, row)) for row in rows)]
    columns = [_Column(texts, texts[0] in right) for texts in zip(*lines, strict=True)]
    if is_terminal():
        columns = _fitting(columns, shutil.get_terminal_size().columns - indent, spare)
    cells = _continued if whole else _cells
    rows_shown = zip(*map(_cells, columns[:-1]), cells(columns[-1]), strict=True)
    head, *body = (_row(shown, indent) for shown in rows_shown)
    return "\n".join([dim(head), *body])


@dataclass(frozen=True, slots=True)
class _Column:
    """A column's texts, its header first, and how many characters the longest may have (None: all that it has)."""

    texts: Sequence[str]
    to_the_right: bool
    limit: int | None = None

    @property
    def width(self) -> int:
        longest = max(map(len, self.texts))
        return longest if self.limit is None else min(self.limit, longest)


def _fitting(columns: Sequence[_Column], room: int, spare: Sequence[str]) -> list[_Column]:
    """The columns without as many spare ones as it takes to leave room for the last, which is cut to what is left."""
    *most, last = columns
    for name in spare:
        if _left(most, room) < min(last.width, ROOM_FOR_LAST):
            most = [column for column in most if column.texts[0] != name]
    return [*most, replace(last, limit=max(MIN_LAST, _left(most, room)))]


def _left(columns: Sequence[_Column], room: int) -> int:
    return room - sum(column.width + 2 for column in columns)


def _row(cells: Sequence[str], indent: int) -> str:
    """One row; the further lines of its last cell stand below the first."""
    *most, last = cells
    begin = " " * indent + "".join(f"{cell}  " for cell in most)
    return (begin + last.replace("\n", f"\n{' ' * len(begin)}")).rstrip()


def _continued(column: _Column) -> list[str]:
    width = max(column.width, ROOM_FOR_LAST)
    return ["\n".join(textwrap.wrap(text, width, break_on_hyphens=False)) for text in column.texts]


def _cells(column: _Column) -> list[str]:
    width = column.width
    cut = [text if len(text) <= width else text[: width - 1] + "…" for text in column.texts]
    return [text.rjust(width) if column.to_the_right else text.ljust(width) for text in cut]


def bar(share: float) -> str:
    """A bar for a share between 0 and 1; fuller than full is shown full."""
    filled = round(max(0.0, min(1.0, share)) * BAR_WIDTH)
    text = "█" * filled + "░" * (BAR_WIDTH - filled)
    return bad(text) if share >= 0.95 else warned(text) if share >= 0.8 else good(text)


def _cut(text: str, width: int) -> str:
    """So many characters of ``text``, and every colour code, which takes no room."""
    parts = re.split(r"(\x1b\[\d+m)", text)
    for place in range(0, len(parts), 2):
        shown = parts[place]
        parts[place] = shown if len(shown) <= width else shown[: width - 1] + "…" if width else ""
        width -= min(width, len(shown))
    return "".join(parts)


class StatusLine:
    """One line at the bottom of a terminal that changes in place; nothing where no terminal is."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str) -> None:
        """Replace the line. It is cut to the terminal: of one that ran on, only the last part could be removed."""
        if is_terminal() and text != self._shown:
            sys.stdout.write(f"\r\x1b[K{_cut(text, shutil.get_terminal_size().columns - 1)}")
            sys.stdout.flush()
            self._shown = text

    def clear(self) -> None:
        """Remove it, before anything else is printed."""
        if self._shown:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
            self._shown = ""
