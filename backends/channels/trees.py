"""What every channel does alike with trees of files: how links travel, what is too much, what an error means."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backends.base import BackendError, Progress, Rejected, Transient

_HOPELESS = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some of your quota on that disk",
    errno.EROFS: "use a folder on a disk that can be written",
    errno.EACCES: "check who may read and write there",
    errno.EPERM: "check who may read and write there",
    errno.ENAMETOOLONG: "shorten the name",
    errno.EISDIR: "a folder is in the place of a file: move it away",
    errno.ENOTDIR: "a file is in the place of a folder: move it away",
    errno.EEXIST: "a file is in the place of a folder: move it away",
}


@dataclass(frozen=True, slots=True)
class Caps:
    """How much may come home in one ``pull``."""

    max_files: int = 1_000_000
    max_bytes: int = 10**12

    def check(self, path: str, files: int, size: int) -> None:
        """Raises Rejected where that is too much."""
        if files > self.max_files or size > self.max_bytes:
            raise Rejected(
                f"{path} holds {files} files of {size} bytes, more than the {self.max_files} files "
                f"or {self.max_bytes} bytes that may come home",
                advice="name less of it under results",
            )


class Meter:
    """Tells ``progress`` of bytes done, out of ``total``."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._progress = progress
        self._total = total
        self._bytes = 0
        progress(0, total)

    def done(self, count: int) -> None:
        """So many bytes more are where they belong."""
        if count:
            self._bytes += count
            self._progress(self._bytes, self._total)

    def still(self, *_: object) -> None:
        """Nothing more is done yet: for whoever may want to end it."""
        self._progress(self._bytes, self._total)


class Onward:
    """Tells ``progress`` of one transfer that goes by several ways in turn: what was done once is not taken back."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = self._total = 0

    def __call__(self, done: int, total: int) -> None:
        """See Progress."""
        self._done, self._total = max(self._done, done), max(self._total, total)
        self._progress(self._done, self._total)


def link_text(tree: Path, source: Path) -> str:
    """The text that makes a copy of the link ``source`` mean the copy of what it means: relative, inside ``tree``.

    Raises Rejected where the link leads out.
    """
    aim = Path(os.path.realpath(source))
    if not aim.is_relative_to(tree.resolve()):
        raise Rejected(f"{source} is a link to {aim}, outside of {tree}", advice="copy the file in, or ignore it")
    return os.path.relpath(aim, source.parent.resolve())


def not_for_transfer(source: Path) -> Rejected:
    """The error for a pipe, a socket or a device."""
    return Rejected(f"{source} is neither file, folder nor link", advice="move it away or ignore it")


def what_went_wrong(doing: str, error: OSError | str, number: int) -> BackendError:
    """The error for its caller: Rejected with advice where trying again cannot help, else Transient."""
    advice = _HOPELESS.get(number)
    kind = Transient if advice is None else Rejected
    return kind(f"cannot {doing}: {error}", advice=advice or "")


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn trouble with files into errors that say what their caller does next."""
    try:
        yield
    except OSError as error:
        raise what_went_wrong(doing, error, error.errno or 0) from error
