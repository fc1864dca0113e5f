"""What the terminal shows: tables, a little colour, and one line that changes in place."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

BAR_WIDTH = 24


def is_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


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
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[int] = (), indent: int = 0) -> str:
    """Columns as wide as they need; only the last is cut, and only for a terminal."""
    cells = [list(map(plain, row)) for row in rows]
    widths = [max(len(row[i]) for row in [headers, *cells]) for i in range(len(headers))]
    room = shutil.get_terminal_size().columns - indent - sum(widths[:-1]) - 2 * (len(widths) - 1)
    if is_terminal():
        widths[-1] = max(12, min(widths[-1], room))
    lines = [dim(_line(headers, widths, right, indent)), *(_line(row, widths, right, indent) for row in cells)]
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int], right: Collection[int], indent: int) -> str:
    *most, last = (_cell(text, width, i in right) for i, (text, width) in enumerate(zip(row, widths, strict=True)))
    return (" " * indent + "  ".join([*most, last])).rstrip()


def _cell(text: str, width: int, to_the_right: bool) -> str:
    if len(text) > width:
        text = text[: width - 1] + "…"
    return text.rjust(width) if to_the_right else text.ljust(width)


def bar(share: float) -> str:
    """A bar for a share between 0 and 1; fuller than full is shown full."""
    filled = round(max(0.0, min(1.0, share)) * BAR_WIDTH)
    text = "█" * filled + "░" * (BAR_WIDTH - filled)
    return bad(text) if share >= 0.95 else warned(text) if share >= 0.8 else good(text)


class StatusLine:
    """One line at the bottom of a terminal that changes in place; nothing where no terminal is."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str) -> None:
        """Replace the line."""
        if is_terminal() and text != self._shown:
            sys.stdout.write(f"\r\x1b[K{text}")
            sys.stdout.flush()
            self._shown = text

    def clear(self) -> None:
        """Remove it, before anything else is printed."""
        if self._shown:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
            self._shown = ""
