"""Our Drive client on the emulated Drive, and the patience that its callers have."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from backends.base import Transient
from backends.channels.drive import Drive
from tests.emulators.drive import DriveEmulator

KIB = 1024
CHUNK = 256 * KIB
T = TypeVar("T")


def mailbox(emulator: DriveEmulator, timeout: float = 60.0, **who: Any) -> Drive:
    """A client as one process has it: nothing remembered."""
    secret = json.dumps(emulator.sign_in(**who))
    return Drive(lambda: secret, api=emulator.url, timeout=timeout, chunk=CHUNK)


def patiently(call: Callable[[], T], tries: int = 5) -> T:
    """As ``orchestrator/lifecycle/patience.py`` calls, without the waiting."""
    for _ in range(tries - 1):
        try:
            return call()
        except Transient:
            continue
    return call()
