"""Sizes of files, known before anything of them is loaded. Needs no torch, so that refusing costs no memory."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import BinaryIO

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}
_MOST_HEADER = 100_000_000
"""Bytes of the longest header that the safetensors format allows."""


class TooLargeError(Exception):
    """Over the size limit, or larger than it said; nothing was loaded."""


class BrokenFileError(Exception):
    """Not what it should be: cut off, changed on the way, or of another kind."""


def parse_size(text: str) -> int:
    """Bytes of ``350 MB``, ``1.5GiB`` or a plain number; raises ValueError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"{text!r} is not a size; write a number and a unit, such as 350 MB or 1 GiB")
    return round(float(match[1]) * _UNITS[match[2].upper()])


def in_megabytes(size: int) -> str:
    """``size`` in decimal megabytes, for reading."""
    return f"{size / 1e6:,.0f} MB" if size >= 10**7 else f"{size / 1e6:,.2f} MB"


def refuse_over(size: int, limit: int, what: str) -> None:
    """Raise TooLargeError if ``size`` is above ``limit``, with what can be done."""
    if size > limit:
        raise TooLargeError(
            f"{what} has {in_megabytes(size)}, and at most {in_megabytes(limit)} are allowed; nothing was loaded.\n"
            "Quantise it first (quantize.py), take a smaller architecture, or raise the limit if the memory is there."
        )


def checked_size(path: Path, limit: int) -> int:
    """Bytes of the checkpoint at ``path``; raises TooLargeError above ``limit``, BrokenFileError if it is cut off."""
    size = path.stat().st_size
    refuse_over(size, limit, str(path))
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            declared = safetensors_bytes(file.read(8), file)
        if declared != size:
            raise BrokenFileError(f"{path} has {size} bytes, but its header tells of {declared}: it was cut off")
    return size


def safetensors_bytes(start: bytes, rest: BinaryIO) -> int:
    """Bytes of the whole safetensors file that begins with ``start``; ``rest`` has what is missing of its header.

    The format: 8 bytes with the length of the header, little endian; the header, JSON; the tensors, whose
    ``data_offsets`` count from the end of the header.
    """
    try:
        (length,) = struct.unpack("<Q", start[:8])
        if length > _MOST_HEADER:
            raise BrokenFileError(f"not a safetensors file: its header would have {length} bytes")
        missing = 8 + length - len(start)
        header = start[8 : 8 + length] + (rest.read(missing) if missing > 0 else b"")
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFileError(f"not a safetensors file: {error}") from error
    return 8 + int(length) + max(ends, default=0)
