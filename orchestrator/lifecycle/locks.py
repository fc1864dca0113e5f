"""Locks that need no clock: held by ``flock``, free at once when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def try_lock(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Hold ``path`` for the block if nobody else does; the block is told whether it does."""
    descriptor = _open(path)
    try:
        while (held := _try(descriptor, shared=shared)) and not _is_current(descriptor, path):
            os.close(descriptor)  # its last holder deleted the file while this one opened it
            descriptor = _open(path)
        yield held
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether anybody holds ``path`` now, shared or not."""
    if not path.exists():
        return False
    with try_lock(path) as free:
        return not free


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(descriptor: int, *, shared: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
