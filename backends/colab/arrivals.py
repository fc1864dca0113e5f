"""What a runtime says of files that it sends, and of requests that it could not carry out; checked, on either road."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.base import Rejected
from backends.channels.listing import checked
from backends.channels.trees import Caps, what_went_wrong
from backends.colab.agent.trees import Item

DIGEST_LENGTH = 64


def settled(reply: Mapping[str, Any], doing: str) -> None:
    """Raise what a reply means that is none."""
    if why := reply.get("refused"):
        raise Rejected(f"the session refuses to {doing}: {why}")
    if why := reply.get("failed"):
        number = reply.get("errno")
        raise what_went_wrong(doing, str(why), number if isinstance(number, int) else 0)


def checked_listing(path: str, rows: Any, caps: Caps) -> list[Item]:
    """The items of a tree, checked one by one. Raises Rejected for what no honest session would send."""
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(Item._fields) for row in rows):
        raise Rejected(f"the session's listing of {path} is none; nothing of it was fetched")
    kinds: dict[str, str] = {}
    items = []
    for row in rows:
        item = checked(row[:6], kinds)
        kinds[item.name] = item.kind
        items.append(Item(*item[:6], *_place_in_blob(row)))
    caps.check(path, len(items), sum(item.size for item in items))
    return items


def _place_in_blob(row: list[Any]) -> tuple[str, int]:
    blob, offset = row[6:]
    named = isinstance(blob, str) and (
        blob == "" or (len(blob) == DIGEST_LENGTH and set(blob) <= set("0123456789abcdef"))
    )
    if not named or type(offset) is not int or not 0 <= offset < 1 << 62 or (row[0] == "f") != bool(blob):
        raise Rejected("the session lists a file that lies nowhere; nothing of it was fetched")
    return blob, offset
