#!/usr/bin/env python3
"""The far end of file transfer, carried to machines beside the runner: standard library, Python 3.8+.

    courier.py ROOT receive PATH             make PATH hold what the other side lists
    courier.py ROOT send PATH                list what PATH holds, then send what the other side asks for
    courier.py ROOT read PATH OFFSET LIMIT   a piece of a file
    courier.py ROOT lacking PATH             which of the files that the other side lists are not there below PATH
    courier.py ROOT fetch PATH               bring files from where the other side says (``fetcher.py``)

It talks over standard input and output, in blocks (``wire.py``). A transfer is four messages:

    sender    a header {"count", "bytes", "lanes"}, then one line per item: [kind, name, size, stamp, mode, aim]
    receiver  {"wants": [[index, offset], ...]}: the files it lacks, and how much of each lies there already;
              or {"done": true} at once. With {"lanes": folder} the sender may open some there (``lanes.py``), and
              says how many in a line {"lanes"}
    sender    for each a byte: GONE, CHANGED, or FILE, the bytes from the offset, KEPT or CHANGED, and their SHA-256
    receiver  {"done": true}
"""

from __future__ import annotations

import errno
import os
import sys
from typing import List, Tuple

from backends.runner.parcels import Corrupt, Item, Receiver, ignore, send_file, send_listing, walk, write_all
from backends.runner.wire import BLOCK, Cut, Incoming, Outgoing, WireError

MAGIC = b"\0gpujob courier 1\n"
"""What the courier says first: whatever a login shell prints before it is not ours."""


LEAST_BYTES_BY_LANES = 1 << 25
"""Less is under way before more sessions would be open."""


class Refusal(Exception):
    """Asking again will not help; the text says why."""


def inside(root: str, path: str) -> str:
    """``path`` below the root, links followed. Raises Refusal where it leads out."""
    top = os.path.realpath(root)
    found = os.path.realpath(os.path.join(top, path))
    if not is_below(found, top):
        raise Refusal("%s leads out of %s" % (path, root))
    return found


def within_job(root: str, path: str) -> str:
    """The same, and links do not lead out of the job directory that ``path`` is written in."""
    found = inside(root, path)
    parent = os.path.dirname(path)
    while parent:
        place = os.path.realpath(os.path.join(root, parent))
        if os.path.isfile(os.path.join(place, "job.json")) and not is_below(found, place):
            raise Refusal("%s leads out of its job directory" % path)
        parent = os.path.dirname(parent)
    return found


def is_below(path: str, top: str) -> bool:
    """Whether ``path`` is ``top`` or lies below it; both resolved."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def receive(root: str, path: str, incoming: Incoming, out: Outgoing) -> None:
    """Be the receiver of a transfer."""
    top = inside(root, path)
    header = incoming.line()
    receiver = Receiver(top, [Item(*incoming.line()) for _ in range(header["count"])], modes=True)
    wants = receiver.wants(out.ping)
    lacking = sum(receiver.listing[index].size - offset for index, offset in wants)
    if wants and header["lanes"] and lacking >= LEAST_BYTES_BY_LANES:
        take_by_lanes(receiver, wants, header["lanes"], incoming, out)
    elif wants:
        out.line({"wants": wants})
        out.flush()
        receiver.take(wants, incoming, ignore)
    receiver.clear()
    out.line({"done": True})


def take_by_lanes(
    receiver: Receiver, wants: List[Tuple[int, int]], count: int, incoming: Incoming, out: Outgoing
) -> None:
    """Receive over ``count`` more lanes, or as many of them as the other side can open."""
    from backends.runner.lanes import Lanes  # what it needs takes longer to load than all of a small transfer

    lanes = Lanes(count)
    try:
        out.line({"wants": wants, "lanes": lanes.folder})
        out.flush()
        incoming.spread(lanes.opened(incoming.line()["lanes"]))
        receiver.take(wants, incoming, ignore)
    finally:
        lanes.close()


def send(root: str, path: str, incoming: Incoming, out: Outgoing) -> None:
    """Be the sender of one: of folders and regular files only."""
    top = within_job(root, path)
    if not os.path.exists(top):
        out.line({"absent": True})
        return
    listing = []
    for item in walk(top):
        out.ping()
        if item.kind in "df":
            listing.append(item)
    send_listing(listing, out)
    for index, offset in incoming.line(1 << 30)["wants"]:
        item = listing[index]
        send_file(top + "/" + item.name if item.name else top, item, offset, out, ignore, ignore)


def lacking(root: str, path: str, incoming: Incoming, out: Outgoing) -> None:
    """Say which of the listed files are not below ``path``, by their index; nothing is changed."""
    listing = [Item(*incoming.line()) for _ in range(incoming.line()["count"])]
    receiver = Receiver(inside(root, path), listing, modes=True)
    out.line({"lacking": [index for index, item in enumerate(listing) if not receiver.has(item)]})


def fetch(root: str, path: str, incoming: Incoming, out: Outgoing) -> None:
    """Bring files from elsewhere."""
    from backends.runner import fetcher  # what it needs takes longer to load than all of a small transfer

    fetcher.fetch(inside(root, path), incoming, out)


def read(root: str, path: str, out: Outgoing, offset: int, limit: int) -> None:
    """Send a piece of a regular file: its length in a line, then the bytes. Nothing of what is not there."""
    try:
        file = os.open(within_job(root, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        out.line({"bytes": 0})
        return
    try:
        data = os.pread(file, limit, offset)
    finally:
        os.close(file)
    out.line({"bytes": len(data)})
    for begin in range(0, len(data), BLOCK):
        out.put(data[begin : begin + BLOCK])


def main(argv: List[str]) -> int:
    """Exit codes: 0 done, 1 not done and the other side was told why."""
    root, verb, path = argv[:3]
    sys.stdout.buffer.write(MAGIC)
    sys.stdout.buffer.flush()
    incoming, out = Incoming(lambda count: os.read(0, count)), Outgoing(lambda data: write_all(1, data))
    try:
        if verb == "read":
            read(root, path, out, int(argv[3]), int(argv[4]))
        else:
            {"receive": receive, "send": send, "lacking": lacking, "fetch": fetch}[verb](root, path, incoming, out)
    except Cut:
        return 1
    except (Refusal, WireError, Corrupt, OSError) as error:
        name = errno.errorcode.get(getattr(error, "errno", None) or 0, "")
        out.line({"error": str(error), "errno": name, "refused": isinstance(error, Refusal)})
        out.flush()
        return 1
    out.flush()
    return 0
