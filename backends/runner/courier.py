#!/usr/bin/env python3
"""The far end of file transfer: one file, standard library only, carried to machines beside the runner.

    courier.py ROOT receive PATH             make PATH hold what the other side lists
    courier.py ROOT send PATH                list what PATH holds, then send what the other side asks for
    courier.py ROOT read PATH OFFSET LIMIT   a piece of a file

It talks over standard input and output; the near end uses the same classes. A transfer is four messages:

    sender    a header {"count", "bytes"}, then one line per item: [kind, name, size, stamp, mode, aim]
    receiver  {"wants": [[index, offset], ...]}: the files it lacks, and how much of each lies there already
    sender    for each a byte: GONE, CHANGED, or FILE, the bytes from the offset, KEPT or CHANGED, and their SHA-256
    receiver  {"done": true}

Everything travels in *blocks*: a kind, a length and at most ``BLOCK`` bytes, deflated where that saves time. A small
file is written beside its place and renamed; a large one grows in a part that names its version, so that the next
try goes on where this one was cut. It needs Python 3.8 and nothing else, and must not import anything of ours.

Sizes are in bytes, stamps are modification times in nanoseconds.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import struct
import sys
import time
import zlib
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

MAGIC = b"\0gpujob courier 1\n"
"""What the courier says first: whatever a login shell prints before it is not ours."""

PART = ".gpujob-part"
"""Files on their way have this name, or begin with it. A job's own file of such a name does not travel."""

LINE_BYTES = 1 << 16
BLOCK = 1 << 18
"""Of content per block. A file that is larger is continued where it was cut."""
READ_BYTES = 1 << 20

HEADER = struct.Struct(">cI")
RAW, DEFLATED, PING = b"r", b"z", b"p"
FILE, GONE, CHANGED, KEPT = b"F", b"G", b"C", b"K"
DIGEST_BYTES = 32

PING_SECONDS = 5.0
PING_PATIENCE_SECONDS = 1800.0
"""How long the other side may be busy (checking what lies there) without sending a byte."""

SAMPLE_BYTES = 1 << 13
WORTHWHILE = 0.9
"""A block that deflates to more than this share of itself travels as it is."""
FIRST_WIRE_SECONDS = 5e-8
"""Per byte, until measured: 20 MB/s."""
LEARNING = 0.2


class Item(NamedTuple):
    """Something to transfer: ``kind`` is d, f, l or ? (neither folder, file nor link); ``name`` is its path below the
    top, with ``/``, and empty for the top itself; ``aim`` is a link's text."""

    kind: str
    name: str
    size: int = 0
    stamp: int = 0
    mode: int = 0
    aim: str = ""


class WireError(Exception):
    """The other side does not keep to the protocol."""


class Cut(Exception):
    """The other side is gone before it was done."""


class Refusal(Exception):
    """Asking again will not help; the text says why."""


class Corrupt(Exception):
    """What arrived is not what was sent. It is removed, so that the next try begins anew."""


class Changed(OSError):
    """The file is not the one that was listed."""


def ignore(*_: Any) -> None:
    """For callers who do not want to be told."""


# --- blocks -------------------------------------------------------------------------------------------------


class Outgoing:
    """A stream of blocks. A block is deflated only where that is faster than sending the bytes it saves: both are
    timed as they go, so a fast link carries bytes as they are and a slow one carries fewer."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self._held = bytearray()
        self._wire_seconds = FIRST_WIRE_SECONDS
        self._deflate_seconds = 0.0
        self._pinged = time.monotonic()

    def put(self, data: bytes) -> None:
        """Send up to ``BLOCK`` bytes, perhaps together with what comes next."""
        if len(self._held) + len(data) > BLOCK:
            self.flush()
        if len(data) == BLOCK:
            self._emit(data)
        else:
            self._held += data

    def line(self, value: Any) -> None:
        """Send a value as one line of JSON, in pieces if it is long."""
        text = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        for begin in range(0, len(text), BLOCK):
            self.put(text[begin : begin + BLOCK])

    def flush(self) -> None:
        """Send what is held back."""
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            self._emit(held)

    def ping(self) -> None:
        """Say that we are still at it, every few seconds."""
        if time.monotonic() - self._pinged > PING_SECONDS:
            self._pinged = time.monotonic()
            self._write(HEADER.pack(PING, 0))

    def _emit(self, data: bytes) -> None:
        kind, body = RAW, data
        if self._is_worth_deflating(data):
            deflated = self._deflated(data)
            if len(deflated) < WORTHWHILE * len(data):
                kind, body = DEFLATED, deflated
        began = time.monotonic()
        self._write(HEADER.pack(kind, len(body)) + body)
        took = (time.monotonic() - began) / len(body)
        self._wire_seconds += LEARNING * (took - self._wire_seconds)

    def _is_worth_deflating(self, data: bytes) -> bool:
        middle = max(0, (len(data) - SAMPLE_BYTES) // 2)
        sample = data[middle : middle + SAMPLE_BYTES]
        saved = 1 - len(self._deflated(sample)) / len(sample)
        return saved > 1 - WORTHWHILE and self._deflate_seconds < saved * self._wire_seconds

    def _deflated(self, data: bytes) -> bytes:
        began = time.monotonic()
        deflated = zlib.compress(data, 1)
        took = (time.monotonic() - began) / len(data)
        self._deflate_seconds += LEARNING * (took - self._deflate_seconds) if self._deflate_seconds else took
        return deflated


class Incoming:
    """The other end of such a stream. Nothing that arrives can make it hold more than two blocks, or wait for ever."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._chunk, self._chunk_at = b"", 0
        self._data, self._data_at = b"", 0

    def skip_to(self, mark: bytes, limit: int) -> bytes:
        """Read until ``mark`` has passed; what came before it. Raises Cut, WireError after ``limit`` bytes without."""
        seen = b""
        while mark not in seen:
            if len(seen) > limit:
                raise WireError("nothing but noise arrives: %r" % seen[:200])
            piece = self._read(READ_BYTES)
            if not piece:
                raise Cut(seen[:limit].decode("utf-8", "replace"))
            seen += piece
        noise, _, self._chunk = seen.partition(mark)
        return noise

    def some(self, limit: int) -> bytes:
        """At least one byte, at most ``limit``."""
        if self._data_at == len(self._data):
            self._data, self._data_at = self._block(), 0
        piece = self._data[self._data_at : self._data_at + limit]
        self._data_at += len(piece)
        return piece

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        pieces: List[bytes] = []
        while count:
            piece = self.some(count)
            pieces.append(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def line(self, limit: int = LINE_BYTES) -> Any:
        """The value of one line of JSON. Raises WireError where it is longer than ``limit``, or no JSON."""
        text = bytearray()
        while not text.endswith(b"\n"):
            if self._data_at == len(self._data):
                self._data, self._data_at = self._block(), 0
            end = self._data.find(b"\n", self._data_at) + 1 or len(self._data)
            text += self._data[self._data_at : end]
            self._data_at = end
            if len(text) > limit:
                raise WireError("a line is longer than %d bytes" % limit)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise WireError("a line is no JSON") from None

    def _block(self) -> bytes:
        give_up = time.monotonic() + PING_PATIENCE_SECONDS
        while True:
            kind, length = HEADER.unpack(self._exactly(HEADER.size))
            if kind == PING and length == 0:
                if time.monotonic() > give_up:
                    raise WireError("the other side sends nothing")
            elif kind in (RAW, DEFLATED) and 0 < length <= BLOCK:
                body = self._exactly(length)
                return body if kind == RAW else inflated(body)
            else:
                raise WireError("what arrives is no block")

    def _exactly(self, count: int) -> bytes:
        pieces: List[bytes] = []
        while count:
            if self._chunk_at == len(self._chunk):
                self._chunk, self._chunk_at = self._read(READ_BYTES), 0
                if not self._chunk:
                    raise Cut("the connection ended")
            piece = self._chunk[self._chunk_at : self._chunk_at + count]
            self._chunk_at += len(piece)
            count -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def inflated(body: bytes) -> bytes:
    """A deflated block. Raises WireError where it is damaged, or holds more than a block may."""
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(body, BLOCK)
    except zlib.error as error:
        raise WireError("a block is damaged: %s" % error) from None
    if not data or not engine.eof or engine.unused_data or engine.unconsumed_tail:
        raise WireError("a block holds more than it may, or less than it says")
    return data


# --- sending ------------------------------------------------------------------------------------------------


def walk(top: str) -> Iterator[Item]:
    """``top`` and all below it, a folder before what it holds, in a stable order. Follows no links but ``top``."""
    ahead = [("", top)]
    while ahead:
        name, path = ahead.pop()
        try:
            info = os.lstat(path) if name else os.stat(path)
            below = folder_names(path) if stat.S_ISDIR(info.st_mode) else []
            yield item_of(name, path, info)
        except FileNotFoundError:  # gone since it was listed
            continue
        ahead += [(name + "/" + child if name else child, path + "/" + child) for child in below]


def folder_names(path: str) -> List[str]:
    """What a folder holds and may travel, last first."""
    return sorted((name for name in os.listdir(path) if not name.startswith(PART)), reverse=True)


def item_of(name: str, path: str, info: os.stat_result) -> Item:
    """The item for what lies at ``path``."""
    mode = info.st_mode
    if stat.S_ISREG(mode):
        return Item("f", name, info.st_size, info.st_mtime_ns, stat.S_IMODE(mode) & 0o777)
    if stat.S_ISLNK(mode):
        return Item("l", name, aim=os.readlink(path))
    return Item("d" if stat.S_ISDIR(mode) else "?", name)


def send_listing(listing: List[Item], out: Outgoing) -> None:
    """The first message."""
    out.line({"count": len(listing), "bytes": sum(item.size for item in listing)})
    for item in listing:
        out.line(item)
    out.flush()


def send_file(
    path: str, item: Item, offset: int, out: Outgoing, told: Callable[[int], Any], troubled: Callable[..., Any]
) -> None:
    """One file of the third message. ``troubled`` is called with the error of a file that cannot be opened or is not
    the listed one, and may raise it; else the other side is told."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        troubled(error)
        out.put(GONE if isinstance(error, FileNotFoundError) else CHANGED)
        return
    try:
        if not is_listed(file, item):
            troubled(Changed("%s changed while it was copied" % path))
            out.put(CHANGED)
        else:
            send_content(file, path, item, offset, out, told, troubled)
    finally:
        os.close(file)


def send_content(
    file: int,
    path: str,
    item: Item,
    offset: int,
    out: Outgoing,
    told: Callable[[int], Any],
    troubled: Callable[..., Any],
) -> None:
    """The bytes from ``offset``, and whether the file has stayed as it was listed. What is missing is filled up."""
    digest = hashlib.sha256()
    hash_beginning(file, offset, digest, out.ping)
    out.put(FILE)
    left = item.size - offset
    while left:
        data = os.read(file, min(BLOCK, left)) or bytes(min(BLOCK, left))
        digest.update(data)
        out.put(data)
        left -= len(data)
        told(len(data))
    same = is_listed(file, item)
    if not same:
        troubled(Changed("%s changed while it was copied" % path))
    out.put((KEPT if same else CHANGED) + digest.digest())


def is_listed(file: int, item: Item) -> bool:
    """Whether the open file is the one that was listed."""
    info = os.fstat(file)
    return stat.S_ISREG(info.st_mode) and (info.st_size, info.st_mtime_ns) == (item.size, item.stamp)


def hash_beginning(file: int, count: int, digest: Any, ping: Callable[[], Any]) -> None:
    """Feed the first ``count`` bytes to ``digest`` and leave the file there."""
    while count:
        data = os.read(file, min(READ_BYTES, count))
        if not data:
            break
        digest.update(data)
        count -= len(data)
        ping()


# --- receiving ----------------------------------------------------------------------------------------------


class Receiver:
    """Makes ``top`` hold what a listing says. The listing must be trusted, or checked.

    ``modes`` says whether files get the modes of the listing or those of a new file here; ``landing`` is called
    before each file is put in its place.
    """

    def __init__(self, top: str, listing: List[Item], *, modes: bool, landing: Callable[[], Any] = ignore) -> None:
        self._top = top
        self._listing = listing
        self._modes = modes
        self._landing = landing
        self._begun: Dict[int, Any] = {}
        self._parts: Dict[str, List[str]] = {}

    def wants(self, ping: Callable[[], Any] = ignore) -> List[Tuple[int, int]]:
        """Make folders and links; the files that are not here, with how many of their bytes are. Raises OSError."""
        if self._listing and self._listing[0].kind == "f":
            os.makedirs(os.path.dirname(self._top), exist_ok=True)
        wanted: List[Tuple[int, int]] = []
        for index, item in enumerate(self._listing):
            if item.kind == "d":
                os.makedirs(self._path(item), exist_ok=True)
            elif item.kind == "l":
                make_link(self._path(item), item.aim)
            elif not self._is_here(item):
                wanted.append((index, self._beginning(index, item, ping)))
        return wanted

    def take(self, wants: List[Tuple[int, int]], incoming: Incoming, told: Callable[[int], Any]) -> List[str]:
        """Receive the third message; the names of files that changed while they were sent.

        Raises Cut, WireError, Corrupt and OSError; every file that was complete before that is in its place.
        """
        changed: List[str] = []
        for index, offset in wants:
            item = self._listing[index]
            word = incoming.take(1)
            if word == FILE:
                whole = item.size <= BLOCK
                kept = self._take_small(item, incoming) if whole else self._take_large(index, offset, incoming, told)
                told(item.size if whole else 0)
            elif word in (GONE, CHANGED):
                kept = word == GONE
            else:
                raise WireError("a file begins with %r" % word)
            if not kept:
                changed.append(item.name)
        return changed

    def clear(self) -> None:
        """Remove what interrupted tries left on its way."""
        for item in self._listing:
            if item.kind == "d":
                folder = self._path(item)
                for name in os.listdir(folder):
                    if name.startswith(PART):
                        remove(os.path.join(folder, name))

    def _path(self, item: Item) -> str:
        return self._top + "/" + item.name if item.name else self._top

    def _mode(self, item: Item) -> Optional[int]:
        return item.mode & 0o777 if self._modes else None

    def _is_here(self, item: Item) -> bool:
        try:
            there = os.lstat(self._path(item))
        except FileNotFoundError:
            return False
        alike = stat.S_ISREG(there.st_mode) and (there.st_size, there.st_mtime_ns) == (item.size, item.stamp)
        return alike and self._mode(item) in (None, stat.S_IMODE(there.st_mode))

    def _beginning(self, index: int, item: Item, ping: Callable[[], Any]) -> int:
        """How much of a large file an earlier try has left; parts of other versions of it are removed."""
        if item.size <= BLOCK:
            return 0
        part = part_of(self._path(item), item)
        if not self._is_begun(part):
            return 0
        file = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            size = min(os.fstat(file).st_size, item.size)
            self._begun[index] = hashlib.sha256()
            hash_beginning(file, size, self._begun[index], ping)
        finally:
            os.close(file)
        return size

    def _is_begun(self, part: str) -> bool:
        folder, name = os.path.split(part)
        if folder not in self._parts:
            self._parts[folder] = [name for name in os.listdir(folder) if name.startswith(PART)]
        for other in self._parts[folder]:
            if other != name and other.startswith(name.rpartition("-")[0]):
                remove(os.path.join(folder, other))
        return name in self._parts[folder]

    def _take_small(self, item: Item, incoming: Incoming) -> bool:
        data, verdict = incoming.take(item.size) if item.size else b"", incoming.take(1 + DIGEST_BYTES)
        if verdict[:1] != KEPT:
            return False
        check(hashlib.sha256(data).digest(), verdict[1:], item)
        path = self._path(item)
        part = os.path.join(os.path.dirname(path), PART)
        remove(part)
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(file, data)
            self._land(file, part, item)
        except OSError:
            remove(part)  # on a full disk, whoever records this failure needs the room
            raise
        finally:
            os.close(file)
        return True

    def _take_large(self, index: int, offset: int, incoming: Incoming, told: Callable[[int], Any]) -> bool:
        """Two receivers of the same version may meet in one part: both write the same bytes to the same places."""
        item = self._listing[index]
        digest = self._begun.pop(index, None) or hashlib.sha256()
        part = part_of(self._path(item), item)
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            os.lseek(file, offset, os.SEEK_SET)
            self._fill(file, item.size - offset, digest, incoming, told)
            verdict = incoming.take(1 + DIGEST_BYTES)
            if verdict[:1] != KEPT:
                remove(part)
                return False
            check(digest.digest(), verdict[1:], item)
            os.ftruncate(file, item.size)
            self._land(file, part, item)
        except (OSError, Corrupt):
            remove(part)
            raise
        finally:
            os.close(file)
        return True

    def _fill(self, file: int, left: int, digest: Any, incoming: Incoming, told: Callable[[int], Any]) -> None:
        while left:
            data = incoming.some(left)
            digest.update(data)
            write_all(file, data)
            left -= len(data)
            told(len(data))

    def _land(self, file: int, part: str, item: Item) -> None:
        os.utime(file, ns=(item.stamp, item.stamp))
        mode = self._mode(item)
        if mode is not None:
            os.fchmod(file, mode)
        self._landing()
        os.replace(part, self._path(item))


def check(found: bytes, said: bytes, item: Item) -> None:
    """Raises Corrupt where the two SHA-256 differ."""
    if found != said:
        raise Corrupt("%s arrived damaged" % (item.name or "the file"))


def part_of(path: str, item: Item) -> str:
    """Where a large file grows: the name tells the file, then its version."""
    folder, name = os.path.split(path)
    marks = (os.fsencode(name), b"%d %d" % (item.size, item.stamp))
    return os.path.join(folder, "-".join([PART, *(hashlib.sha256(mark).hexdigest()[:12] for mark in marks)]))


def remove(path: str) -> None:
    """Remove a file that may be gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def make_link(path: str, aim: str) -> None:
    """Make a link, in one step."""
    if os.path.islink(path) and os.readlink(path) == aim:
        return
    part = os.path.join(os.path.dirname(path), PART)
    remove(part)
    os.symlink(aim, part)
    os.replace(part, path)


def write_all(file: int, data: bytes) -> None:
    """Write every byte. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


# --- the far end --------------------------------------------------------------------------------------------


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
    out.line({"wants": wants})
    out.flush()
    receiver.take(wants, incoming, ignore)
    receiver.clear()
    out.line({"done": True})


def send(root: str, path: str, incoming: Incoming, out: Outgoing) -> None:
    """Be the sender of one: of folders and regular files only."""
    top = within_job(root, path)
    if not os.path.exists(top):
        out.line({"absent": True})
        return
    listing = [item for item in walk(top) if item.kind in "df"]
    send_listing(listing, out)
    for index, offset in incoming.line(1 << 30)["wants"]:
        item = listing[index]
        send_file(top + "/" + item.name if item.name else top, item, offset, out, ignore, ignore)


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
            {"receive": receive, "send": send}[verb](root, path, incoming, out)
    except Cut:
        return 1
    except (Refusal, WireError, Corrupt, OSError) as error:
        name = errno.errorcode.get(getattr(error, "errno", None) or 0, "")
        out.line({"error": str(error), "errno": name, "refused": isinstance(error, Refusal)})
        out.flush()
        return 1
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
