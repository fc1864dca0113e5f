"""Named places where a test may kill the process, as a power cut would.

``failpoint("provision:intent")`` does nothing unless ``GPUJOB_CRASH_AT`` is set, to a number N or to a name; then the
N-th failpoint that this process reaches, or the first of that name, ends it with SIGKILL. The crash tests raise N until
a job completes, so a new failpoint is covered without anybody listing it.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

_lock = threading.Lock()
_target = os.environ.get("GPUJOB_CRASH_AT", "")
_trace = os.environ.get("GPUJOB_CRASH_TRACE")
_reached = 0


def failpoint(name: str) -> None:
    """Die here if the test asked for it; the name goes to ``GPUJOB_CRASH_TRACE`` (a file) first."""
    if not _target:
        return
    global _reached  # noqa: PLW0603  one counter per process is the point
    with _lock:
        _reached += 1
        if _trace:
            with Path(_trace).open("a", encoding="utf-8") as file:
                file.write(f"{_reached} {name}\n")
        if _target in (str(_reached), name):
            os.kill(os.getpid(), signal.SIGKILL)
