"""The word by which a home knows what it has rented: random, made with the first machine, kept in a file."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


class Owner:
    """The word of one home at one provider, in the file ``owner`` of ``root``. 32 hexadecimal digits, no secret."""

    def __init__(self, root: Path) -> None:
        self._path = root / "owner"

    @property
    def word(self) -> str:
        """The word; empty as long as this home has never asked for a machine."""
        try:
            return self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    def word_or_new(self) -> str:
        """The word, made and on disk for good when this returns. Any number of processes get the same."""
        if word := self.word:
            return word
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_name(f"owner.{os.getpid()}.{secrets.token_hex(4)}")
        with draft.open("x", encoding="ascii") as file:
            file.write(secrets.token_hex(16))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another worker was faster: its word counts
            os.link(draft, self._path)
        draft.unlink()
        return self.word
