"""A checkpoint from an address: its size is judged before it is read, and it never lies in memory as a whole."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sizes import BrokenFileError, in_megabytes, refuse_over, safetensors_bytes

CHUNK = 8_000_000
PROGRESS = 100_000_000
PATIENCE = 60.0
"""Bytes read at a time, bytes between two lines of progress, seconds of silence after which a server is given up."""


def fetch(url: str, into: Path, limit: int, sha256: str = "", say: Callable[[str], None] = print) -> Path:
    """Download ``url`` into the folder ``into``, in chunks of 8 MB; the path of the whole file is returned.

    Raises TooLargeError if the server announces more than ``limit`` bytes, the header of a safetensors file does, or
    more comes; BrokenFileError if less comes than announced or the content has another ``sha256``. A file that is
    not whole never bears the final name.
    """
    name = Path(url.split("?")[0].rstrip("/")).name or "checkpoint"
    into.mkdir(parents=True, exist_ok=True)
    whole, part = into / name, into / f"{name}.part"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply, part.open("wb") as file:
            announced = int(reply.headers["Content-Length"]) if reply.headers["Content-Length"] else None
            refuse_over(announced or 0, limit, f"{url}, by its Content-Length,")
            digest, size = _stream(reply, file, limit, name, say)
        if announced is not None and size != announced:
            raise BrokenFileError(f"{url} announced {announced} bytes and sent {size}: try again")
        if sha256 and digest != sha256:
            raise BrokenFileError(f"{url} has the SHA-256 {digest}, not {sha256}: it is not the file you meant")
        return part.rename(whole)
    finally:
        part.unlink(missing_ok=True)


def _stream(reply: BinaryIO, file: BinaryIO, limit: int, name: str, say: Callable[[str], None]) -> tuple[str, int]:
    """Copy ``reply`` chunk by chunk; returns the SHA-256 and the number of bytes."""
    digest, size = hashlib.sha256(), 0
    while chunk := reply.read(CHUNK):
        if size == 0 and name.endswith(".safetensors"):
            refuse_over(safetensors_bytes(chunk, io.BytesIO()), limit, f"{name}, by its own header,")
        if size // PROGRESS < (size + len(chunk)) // PROGRESS:
            say(f"{name}: {in_megabytes(size + len(chunk))} downloaded")
        size += len(chunk)
        refuse_over(size, limit, f"{name}, still coming,")
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest(), size
