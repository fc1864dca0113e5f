"""Small files that must survive a power cut: whole, and under their name, when the call returns."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def keep(path: Path, text: str) -> None:
    """Put ``text`` in the place of whatever ``path`` held; a crash leaves the old or the new, never half of one.

    Missing folders are made, for nobody else to look into. Any number of processes may do it at once.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with draft.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # a name that a power cut takes away is no file
    finally:
        os.close(folder)
