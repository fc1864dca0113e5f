"""Trees of files as they travel through the mailbox, the same at both ends: a manifest, and blobs named by content.

Small files share a blob; a large one has its own. A blob's name is the SHA-256 of its bytes, so what lies in the
mailbox already is not sent again, and what arrives is verified by its name. Sizes in bytes, stamps in nanoseconds.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PART = ".gpujob-part"
SMALL = 256 << 10
BLOB = 4 << 20
BLOCK = 1 << 20


class Item(NamedTuple):
    """Something in a tree: ``kind`` is d, f or l, ``name`` its path below the top, ``aim`` a link's text. A file's
    bytes are ``size`` bytes of ``blob`` from ``offset``.
    """

    kind: str
    name: str
    size: int = 0
    stamp: int = 0
    mode: int = 0
    aim: str = ""
    blob: str = ""
    offset: int = 0


class Blob(NamedTuple):
    """Bytes to be sent: those of ``paths``, one after the other."""

    sha256: str
    size: int
    paths: tuple[Path, ...]

    def data(self) -> bytes | None:
        """The bytes; None where a file is another one by now."""
        try:
            found = b"".join(path.read_bytes() for path in self.paths)
        except OSError:
            return None
        return found if hashlib.sha256(found).hexdigest() == self.sha256 else None


class Other(Exception):
    """Neither file, folder nor link: it does not travel."""


class Changed(Exception):
    """A file was written to while it was read."""


def walk(top: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """``top`` and all below it, a folder before what it holds, in a stable order. Follows no links but ``top``."""
    ahead = [("", top)]
    while ahead:
        name, path = ahead.pop()
        try:
            info = path.lstat() if name else path.stat()
            inside = sorted((each.name for each in path.iterdir()), reverse=True) if stat.S_ISDIR(info.st_mode) else []
        except FileNotFoundError:  # gone since it was listed
            continue
        yield name, path, info
        ahead += [
            (f"{name}/{child}" if name else child, path / child) for child in inside if not child.startswith(PART)
        ]


def pack(top: Path, link: Callable[[Path], str] | None = None) -> tuple[list[Item], list[Blob]]:
    """What ``top`` holds, and the blobs that carry it. ``link`` gives the text of a link to send; without it links and
    all that is neither file nor folder stay behind. Raises Changed; Other with ``link``.
    """
    packing = _Packing()
    for name, path, info in walk(top):
        if stat.S_ISDIR(info.st_mode):
            packing.items.append(Item("d", name))
        elif stat.S_ISREG(info.st_mode):
            packing.add(name, path, info)
        elif link is not None:
            if not stat.S_ISLNK(info.st_mode):
                raise Other(str(path))
            packing.items.append(Item("l", name, aim=link(path)))
    packing.close()
    return packing.items, packing.blobs


class _Packing:
    """Fills blobs with small files."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.blobs: list[Blob] = []
        self._waiting: list[tuple[int, Path, bytes]] = []

    def add(self, name: str, path: Path, info: os.stat_result) -> None:
        item = Item("f", name, info.st_size, info.st_mtime_ns, stat.S_IMODE(info.st_mode) & 0o777)
        large = info.st_size > SMALL
        try:
            sha256, data = (digest_of(path), b"") if large else ("", path.read_bytes())
            now = path.stat()
        except FileNotFoundError:  # gone since it was listed
            return
        if (now.st_size, now.st_mtime_ns) != (info.st_size, info.st_mtime_ns):
            raise Changed(str(path))
        if large:
            self.blobs.append(Blob(sha256, info.st_size, (path,)))
            self.items.append(item._replace(blob=sha256))
            return
        self._waiting.append((len(self.items), path, data))
        self.items.append(item)
        if sum(len(each[2]) for each in self._waiting) >= BLOB:
            self.close()

    def close(self) -> None:
        if not self._waiting:
            return
        data = b"".join(each[2] for each in self._waiting)
        sha256, offset = hashlib.sha256(data).hexdigest(), 0
        for index, _, content in self._waiting:
            self.items[index] = self.items[index]._replace(blob=sha256, offset=offset)
            offset += len(content)
        self.blobs.append(Blob(sha256, len(data), tuple(each[1] for each in self._waiting)))
        self._waiting = []


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def lacking(top: Path, items: list[Item], modes: bool) -> list[Item]:
    """The files of ``items`` that ``top`` does not hold alike yet."""
    return [item for item in items if item.kind == "f" and not _is_there(_place(top, item), item, modes)]


def unpack(top: Path, items: list[Item], blob: Callable[[str], Path], modes: bool) -> None:
    """Make ``top`` hold ``items``: each file in one step. ``blob`` gives a file with the bytes of that name."""
    wanted = {item.name for item in lacking(top, items, modes)}
    for item in items:
        place = _place(top, item)
        if item.kind == "d":
            place.mkdir(parents=True, exist_ok=True)
        elif item.kind == "l":
            _link(place, item.aim)
        elif item.name in wanted:
            _write(place, item, blob(item.blob), modes)


def _place(top: Path, item: Item) -> Path:
    return top / item.name if item.name else top


def _is_there(place: Path, item: Item, modes: bool) -> bool:
    try:
        info = place.lstat()
    except OSError:
        return False
    alike = stat.S_ISREG(info.st_mode) and (info.st_size, info.st_mtime_ns) == (item.size, item.stamp)
    return alike and (not modes or stat.S_IMODE(info.st_mode) == item.mode)


def _link(place: Path, aim: str) -> None:
    part = place.with_name(PART)
    part.unlink(missing_ok=True)
    part.symlink_to(aim)
    part.replace(place)


def _write(place: Path, item: Item, source: Path, modes: bool) -> None:
    part = place.with_name(PART)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    with source.open("rb") as read, part.open("xb") as out:
        read.seek(item.offset)
        left = item.size
        while left and (data := read.read(min(BLOCK, left))):
            out.write(data)
            left -= len(data)
    os.utime(part, ns=(item.stamp, item.stamp))
    if modes:
        part.chmod(item.mode)
    part.replace(place)


def as_rows(items: list[Item]) -> list[list[Any]]:
    """As plain JSON values."""
    return [list(item) for item in items]
