"""Reading what a machine says it will send. It is not trusted: whatever no honest folder can hold is refused."""

from __future__ import annotations

import os
from typing import Any

from backends.base import Rejected
from backends.channels.trees import Caps
from backends.runner.parcels import PART, Item
from backends.runner.wire import Incoming

NAME_BYTES = 255
PATH_BYTES = 4096
FARTHEST = 1 << 62
"""Sizes in bytes and times in nanoseconds lie below; ``utime`` takes no more."""


def read_listing(header: Any, incoming: Incoming, path: str, caps: Caps) -> list[Item]:
    """The items that follow ``header``, checked one by one as they come: at most as many, and as large, as allowed.

    Raises Rejected where they are too many or too large, or are not what a folder can hold.
    """
    files, size = _count_of(header, "count"), _count_of(header, "bytes")
    caps.check(path, files, size)
    items: list[Item] = []
    kinds: dict[str, str] = {}
    for _ in range(files):
        item = checked(incoming.line(), kinds)
        kinds[item.name] = item.kind
        items.append(item)
        size -= item.size
        if size < 0:
            raise _hostile("more than it says")
    return items


def checked(row: Any, kinds: dict[str, str]) -> Item:
    """The item in ``row``, after those whose ``kinds`` by name are given. Raises Rejected."""
    if not isinstance(row, list) or len(row) != len(Item._fields):
        raise _hostile("something that is no item")
    kind, name, size, stamp = row[:4]
    if kind not in ("d", "f"):
        raise _hostile("something that is neither file nor folder")
    if not isinstance(name, str) or name in kinds or bool(name) != bool(kinds):
        raise _hostile("a name twice, or out of order")
    if name:
        _check_name(name, kinds)
    for number in (size, stamp):
        if type(number) is not int or abs(number) >= FARTHEST:
            raise _hostile("a size or time that cannot be")
    if size < 0 or (kind == "d" and size):
        raise _hostile("a size that cannot be")
    return Item(kind, name, size, stamp)


def _check_name(name: str, kinds: dict[str, str]) -> None:
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        raise _hostile("a name that cannot be") from None
    folder, _, last = name.rpartition("/")
    if kinds.get(folder) != "d":
        raise _hostile("a file in a folder that it does not name")
    if last in ("", ".", "..") or "\0" in last or last.startswith(PART):
        raise _hostile("a name that cannot be")
    if len(encoded) > PATH_BYTES or len(os.fsencode(last)) > NAME_BYTES:
        raise _hostile("a name that is too long")


def _count_of(header: Any, name: str) -> int:
    value = header.get(name) if isinstance(header, dict) else None
    if type(value) is not int or not 0 <= value < FARTHEST:
        raise _hostile("no count")
    return value


def _hostile(what: str) -> Rejected:
    return Rejected(
        f"the machine lists {what}, which no folder can hold; nothing of it was fetched",
        advice="do not trust this machine: end the attempt and rent another",
    )
