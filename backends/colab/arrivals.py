"""Files and requests between here and a runtime, alike on either road; what a runtime says is checked."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backends.base import Lost, Progress, Rejected, Transient
from backends.channels.listing import checked
from backends.channels.trees import Caps, Meter, explained, link_text, not_for_transfer, what_went_wrong
from backends.colab.agent.trees import Blob, Changed, Item, Other, lacking, pack, unpack

DIGEST_LENGTH = 64


def settled(reply: Mapping[str, Any], doing: str) -> None:
    """Raise what a reply means that is none."""
    if why := reply.get("refused"):
        raise Rejected(f"the session refuses to {doing}: {why}")
    if why := reply.get("failed"):
        number = reply.get("errno")
        raise what_went_wrong(doing, str(why), number if isinstance(number, int) else 0)


def packed(tree: Path) -> tuple[list[Item], list[Blob]]:
    """A folder here, as what is sent of it. Raises Rejected for what does not travel, Transient where it changes."""
    with explained(f"read {tree}"):
        try:
            return pack(tree, lambda link: link_text(tree, link))
        except Other as other:
            raise not_for_transfer(Path(str(other))) from other
        except Changed as changed:
            raise Transient(f"{changed} changed while it was read") from changed


def started(ask: Callable[[], Mapping[str, Any]]) -> None:
    """Ask a runtime to start a run. Raises Rejected where the runner refuses, Lost without a reply."""
    try:
        reply = ask()
    except Transient as error:
        raise Lost(f"nobody knows whether the run started: {error}") from error
    if why := reply.get("refused"):
        raise Rejected(f"the runner refuses the job: {why}")
    settled(reply, "start the run")


def incoming_folder(incoming: Path, path: str) -> Path:
    """Where the blobs of ``path`` are gathered until all have come: what came before an interruption lies there."""
    folder = incoming / hashlib.sha256(path.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def received(
    path: str, items: list[Item], dest: Path, folder: Path, fetch: Callable[[str, int], None], progress: Progress
) -> None:
    """Make ``dest`` what ``items`` list. ``fetch`` brings a blob, by its digest and its size in bytes, into ``folder``
    as far as it is not there.
    """
    meter = Meter(sum(item.size for item in items), progress)
    with explained(f"fetch {path} to {dest}"):
        wanted = lacking(dest, items, modes=False)
        for sha256 in dict.fromkeys(item.blob for item in wanted):
            fetch(sha256, max(item.offset + item.size for item in items if item.blob == sha256))
            meter.done(sum(item.size for item in wanted if item.blob == sha256))
        dest.parent.mkdir(parents=True, exist_ok=True)
        unpack(dest, items, lambda sha256: folder / sha256, modes=False)
        shutil.rmtree(folder, ignore_errors=True)


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
