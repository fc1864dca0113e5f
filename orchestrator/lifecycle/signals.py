"""What is done when a signal comes, done where it can wait for a lock."""

from __future__ import annotations

import signal
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread


def when_told_to_end(act: Callable[[], None]) -> None:
    """Call ``act`` in a thread at SIGTERM or SIGINT, once.

    A handler runs between any two instructions of the main thread. One that set a flag which the main thread waits for
    would now and then find it in the middle of that wait, holding the flag's lock: nobody would ever go on. Putting
    something into a SimpleQueue is safe there.
    """
    told: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.put(number))

    def wait() -> None:
        told.get()
        act()

    Thread(target=wait, name="signals", daemon=True).start()
