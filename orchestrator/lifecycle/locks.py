"""Locks that need no clock: held by ``flock``, free at once when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold ``path`` for the block if nobody else does; the block is told whether it does."""
    with try_descriptor(path) as descriptor:
        yield descriptor is not None


@contextmanager
def try_descriptor(path: Path) -> Iterator[int | None]:
    """Like :func:`try_lock`, for the descriptor: a child process that inherits it holds the lock beyond the block."""
    descriptor = _open(path)
    try:
        while (held := _try(descriptor, fcntl.LOCK_EX)) and not _is_current(descriptor, path):
            os.close(descriptor)  # its last holder deleted the file while this one opened it
            descriptor = _open(path)
        yield descriptor if held else None
    finally:
        os.close(descriptor)


@contextmanager
def presence(path: Path) -> Iterator[None]:
    """Be counted by :func:`anyone_present` for the block, beside any others."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits out whoever is counting: microseconds
        yield
    finally:
        os.close(descriptor)


def anyone_present(path: Path) -> bool:
    """Whether anybody is in :func:`presence` now. Those who ask take turns, or one would be taken for a presence."""
    if not path.exists():
        return False
    turn = _open(path.with_suffix(".asking"))
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with try_lock(path) as alone:
            return not alone
    finally:
        os.close(turn)


def is_held(path: Path) -> bool:
    """Whether anybody holds ``path`` by :func:`try_lock`. Asking is shared: nobody takes one who asks for a holder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
