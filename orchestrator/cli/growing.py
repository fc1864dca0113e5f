"""A log that is still written to, shown as it comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from orchestrator.cli.screen import plain
from orchestrator.text import TerminalText


@dataclass
class GrowingLog:
    """One file, and how many bytes of it were printed ``to``."""

    path: Path
    to: TextIO
    seen: int = 0
    _text: TerminalText = field(default_factory=TerminalText)

    def show_new(self, *, last: bool) -> None:
        """Print what was written since; with ``last``, also what seems to be cut in the middle of a character."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.seen)
                while data := file.read(1 << 20):
                    self.to.write(plain(self._text(data)))
                self.seen = file.tell()
        except FileNotFoundError:
            return
        if last:
            self.to.write(plain(self._text(b"", last=True)))
        self.to.flush()
