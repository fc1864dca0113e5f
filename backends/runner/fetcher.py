"""Files that a machine brings by itself, from addresses that whoever knows them may read: the courier's verb ``fetch``.

    other side  a header {"count"}, then one line per file: [name, size, stamp, mode, SHA-256, address]
    here        {"bytes": how many are here}, every second and for every file; at the end
                {"broken": [index, ...], "why": words}: which arrived with another SHA-256, and the first other trouble

Addresses come over standard input, and are told to nobody. Several files are under way at once; each appears in its
place in one step, with its time and mode, once its SHA-256 was right. What could not be brought is left to who asked.
Carried to machines beside the runner: standard library, Python 3.8+.
"""

from __future__ import annotations

import os
import threading
from typing import Any, List, NamedTuple, Optional

from backends.runner.courier import Refusal, inside
from backends.runner.inputs import InputError, download, is_right
from backends.runner.parcels import PART, remove
from backends.runner.wire import Incoming, Outgoing

AT_ONCE = 4
BEAT_SECONDS = 1.0
TRIES, TIMEOUT = 3, 20.0
"""Fewer and shorter than for inputs: whoever asked has another way, and the machine costs money while it waits."""


class Order(NamedTuple):
    """A file to bring: its path below the top with ``/``, size in bytes, time in nanoseconds, mode, and its source."""

    name: str
    size: int
    stamp: int
    mode: int
    sha256: str
    address: str


class Broken(Exception):
    """What arrived is not what was asked for."""


def fetch(top: str, incoming: Incoming, out: Outgoing) -> None:
    """Bring what the other side lists to below ``top``, and say how that went."""
    work = Fetching(top, [Order(*incoming.line()) for _ in range(incoming.line()["count"])])
    threads = [threading.Thread(target=work.go_on, daemon=True) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(BEAT_SECONDS)
            out.line({"bytes": work.bytes})
            out.flush()
    out.line({"broken": work.broken, "why": work.why})


class Fetching:
    """Orders that several threads carry out, each one file at a time."""

    def __init__(self, top: str, orders: List[Order]) -> None:
        self._top = top
        self._orders = list(enumerate(orders))[::-1]
        self._lock = threading.Lock()
        self.bytes = 0
        self.broken: List[int] = []
        self.why = ""

    def go_on(self) -> None:
        """Bring one file after the other, until there are none left. Where one cannot be had, no more are begun."""
        while True:
            with self._lock:
                if self.why or not self._orders:
                    return
                index, order = self._orders.pop()
            try:
                bring(self._top, order, self._counter())
            except Broken:
                self.broken.append(index)
            except Exception as error:  # its words may hold the address, unless it is one of these
                known = isinstance(error, (InputError, OSError, Refusal))
                self.why = str(error) if known else type(error).__name__

    def _counter(self) -> Any:
        """Told how much of one file is here; a download that begins anew takes back what it had."""
        seen = 0

        def told(done: int, _: Optional[int]) -> None:
            nonlocal seen
            with self._lock:
                self.bytes += done - seen
            seen = done

        return told


def bring(top: str, order: Order, told: Any) -> None:
    """One file. Raises Broken, InputError, Refusal where its name leads out, OSError."""
    folder, name = os.path.split(order.name)
    if name in ("", ".", ".."):
        raise Refusal("%s is no name of a file" % order.name)
    folder = inside(top, folder)
    os.makedirs(folder, exist_ok=True)
    part = os.path.join(folder, "%s.%s" % (PART, os.urandom(6).hex()))
    try:
        download(order.address, part, order.size, told, TRIES, TIMEOUT)
        if not is_right(part, order.sha256):
            raise Broken(order.name)
        os.utime(part, ns=(order.stamp, order.stamp))
        os.chmod(part, order.mode & 0o777)
        os.replace(part, os.path.join(folder, name))
    finally:
        remove(part)
        remove(part + ".part")
