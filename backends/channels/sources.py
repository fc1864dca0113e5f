"""Files that a machine brings by itself: the near end of ``runner/fetcher.py``. Its answers are not trusted.

Sizes are in bytes. Addresses are secrets: whoever knows one may read the file. They travel over the standard input of
the machine's courier, and are in no error and no answer of ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.base import Progress
from backends.channels.ssh_connection import printable
from backends.channels.transfer import WANTS_BYTES, Courier, plain_errors
from backends.runner.parcels import Item, send_listing
from backends.runner.wire import WireError

_ADDRESS = re.compile(r"\S*(?:://|X-Amz-)\S*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """A file, the SHA-256 of its content, and the address that a machine can have it from."""

    item: Item
    sha256: str
    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Brought:
    """How it went: files whose content was another one, and why others could not be had; empty where all were."""

    broken: tuple[Source, ...] = ()
    why: str = ""


def lacking(courier: Courier, files: Sequence[Item]) -> list[Item]:
    """Those of ``files`` that the machine says it lacks."""
    with plain_errors():
        send_listing(list(files), courier.out)
        said = courier.answer("look for files", WANTS_BYTES)
        return [files[index] for index in _indexes(said.get("lacking"), len(files))]


def fetch(courier: Courier, wanted: Sequence[Source], progress: Progress) -> Brought:
    """Let the machine bring what is ``wanted``; ``progress`` hears of it at least every few seconds."""
    total = sum(each.item.size for each in wanted)
    with plain_errors():
        courier.out.line({"count": len(wanted)})
        for each in wanted:
            item = each.item
            courier.out.line([item.name, item.size, item.stamp, item.mode, each.sha256, each.address])
        courier.out.flush()
        while "bytes" in (said := courier.answer("fetch files", WANTS_BYTES)):
            progress(_count(said["bytes"], total), total)
        broken = tuple(wanted[index] for index in _indexes(said.get("broken"), len(wanted)))
        return Brought(broken, _without_addresses(said.get("why")))


def _indexes(value: Any, count: int) -> list[int]:
    """Indexes below ``count``, each once. Raises WireError."""
    if not isinstance(value, list) or len(value) > count:
        raise WireError("no list of files")
    if not all(type(index) is int and 0 <= index < count for index in value) or len(set(value)) < len(value):
        raise WireError("a file that was not named")
    return value


def _count(value: Any, most: int) -> int:
    if type(value) is not int:
        raise WireError("no count of bytes")
    return min(max(0, value), most)


def _without_addresses(words: Any) -> str:
    """Words of the machine, for people; it knows the addresses, and nobody else needs to."""
    if not isinstance(words, str):
        raise WireError("no words")
    return printable(_ADDRESS.sub("(an address)", words))
