"""Trees of files as they travel, the same at both ends: listing them, sending their content, receiving it.

A small file is written beside its place and renamed; a large one grows in a part that names its version, so that the
next try goes on where this one was cut. Carried to machines beside the runner: standard library, Python 3.8+.

Sizes are in bytes, stamps are modification times in nanoseconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from backends.runner.wire import BLOCK, READ_BYTES, Incoming, Outgoing, WireError

PART = ".gpujob-part"
"""Files on their way have this name, or begin with it. A job's own file of such a name does not travel."""

FILE, GONE, CHANGED, KEPT = b"F", b"G", b"C", b"K"
DIGEST_BYTES = 32


class Item(NamedTuple):
    """Something to transfer: ``kind`` is d, f, l or ? (neither folder, file nor link); ``name`` is its path below the
    top, with ``/``, and empty for the top itself; ``aim`` is a link's text."""

    kind: str
    name: str
    size: int = 0
    stamp: int = 0
    mode: int = 0
    aim: str = ""


class Begun(NamedTuple):
    """What an earlier try has left of a large file: the digest of its bytes, and which file they lie in."""

    digest: Any
    info: os.stat_result


class Corrupt(Exception):
    """What arrived is not what was sent. It is removed, so that the next try begins anew."""


class Changed(OSError):
    """The file is not the one that was listed."""


def ignore(*_: Any) -> None:
    """For callers who do not want to be told."""


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


def send_listing(listing: List[Item], out: Outgoing, lanes: int = 0) -> None:
    """The first message; ``lanes`` are how many could be used beside the one that we talk over."""
    out.line({"count": len(listing), "bytes": sum(item.size for item in listing), "lanes": lanes})
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


class Receiver:
    """Makes ``top`` hold what a listing says. The listing must be trusted, or checked.

    ``modes`` says whether files get the modes of the listing or those of a new file here; ``landing`` is called
    before each file is put in its place.
    """

    def __init__(self, top: str, listing: List[Item], *, modes: bool, landing: Callable[[], Any] = ignore) -> None:
        self._top = top
        self.listing = listing
        self._modes = modes
        self._landing = landing
        self._own_part = "%s.%s" % (PART, os.urandom(6).hex())
        self._begun: Dict[int, Begun] = {}
        self._parts: Dict[str, List[str]] = {}

    def wants(self, ping: Callable[[], Any] = ignore) -> List[Tuple[int, int]]:
        """Make folders and links; the files that are not here, with how many of their bytes are. Raises OSError."""
        if self.listing and self.listing[0].kind == "f":
            os.makedirs(os.path.dirname(self._top), exist_ok=True)
        wanted: List[Tuple[int, int]] = []
        for index, item in enumerate(self.listing):
            ping()
            if item.kind == "d":
                os.makedirs(self._path(item), exist_ok=True)
            elif item.kind == "l":
                self._make_link(self._path(item), item.aim)
            elif not self.has(item):
                wanted.append((index, self._beginning(index, item, ping)))
        return wanted

    def has(self, item: Item) -> bool:
        """Whether the file is in its place already: the same size, time and mode."""
        try:
            there = os.lstat(self._path(item))
        except FileNotFoundError:
            return False
        alike = stat.S_ISREG(there.st_mode) and (there.st_size, there.st_mtime_ns) == (item.size, item.stamp)
        return alike and self._mode(item) in (None, stat.S_IMODE(there.st_mode))

    def take(self, wants: List[Tuple[int, int]], incoming: Incoming, told: Callable[[int], Any]) -> List[str]:
        """Receive the third message; the names of files that changed while they were sent.

        Raises Cut, WireError, Corrupt and OSError; every file that was complete before that is in its place.
        """
        changed: List[str] = []
        for index, offset in wants:
            item = self.listing[index]
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
        """Remove what interrupted tries left on its way. Beside a single file, others may yet be continued."""
        for item in self.listing:
            if item.kind == "d":
                remove_parts(self._path(item), PART)
            elif not item.name:
                remove_parts(os.path.dirname(self._top), PART + ".")

    def _path(self, item: Item) -> str:
        return self._top + "/" + item.name if item.name else self._top

    def _mode(self, item: Item) -> Optional[int]:
        return item.mode & 0o777 if self._modes else None

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
            begun = self._begun[index] = Begun(hashlib.sha256(), os.fstat(file))
            hash_beginning(file, size, begun.digest, ping)
        finally:
            os.close(file)
        return size

    def _make_link(self, path: str, aim: str) -> None:
        if os.path.islink(path) and os.readlink(path) == aim:
            return
        part = self._part_beside(path)
        os.symlink(aim, part)
        os.replace(part, path)

    def _part_beside(self, path: str) -> str:
        """Ours alone: a receiver whose connection was cut may still be at work on what had arrived."""
        part = os.path.join(os.path.dirname(path), self._own_part)
        remove(part)
        return part

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
        part = self._part_beside(self._path(item))
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
        """Two receivers of the same version may meet in one part: both write the same bytes to the same places. Once
        one of them has put it in its place, a part of that name is another file, which lacks what the first one held.
        """
        item = self.listing[index]
        begun = self._begun.pop(index, None)
        digest = begun.digest if begun else hashlib.sha256()
        part = part_of(self._path(item), item)
        file = os.open(part, os.O_WRONLY | os.O_NOFOLLOW | (0 if offset else os.O_CREAT), 0o666)
        try:
            if offset and not (begun and os.path.samestat(begun.info, os.fstat(file))):
                raise Changed("another transfer has finished %s" % part)
            os.lseek(file, offset, os.SEEK_SET)
            self._fill(file, item.size - offset, digest, incoming, told)
            verdict = incoming.take(1 + DIGEST_BYTES)
            if verdict[:1] != KEPT:
                remove_own(part, file)
                return False
            check(digest.digest(), verdict[1:], item)
            os.ftruncate(file, item.size)
            self._land(file, part, item)
        except (OSError, Corrupt):
            remove_own(part, file)
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
        if not is_at(part, file):  # it is in its place already, and has its time again
            raise Changed("another transfer has finished %s" % part)
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


def remove_parts(folder: str, prefix: str) -> None:
    """Remove files on their way from a folder."""
    for name in os.listdir(folder):
        if name.startswith(prefix):
            remove(os.path.join(folder, name))


def is_at(path: str, file: int) -> bool:
    """Whether ``path`` is the open file, and not another that took its name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def remove_own(path: str, file: int) -> None:
    """Remove the open file; another that took its name stays."""
    if is_at(path, file):
        remove(path)


def remove(path: str) -> None:
    """Remove a file that may be gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def write_all(file: int, data: bytes) -> None:
    """Write every byte. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
