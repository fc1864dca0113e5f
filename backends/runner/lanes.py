"""More lanes than one for what is sent to a machine.

An SSH server lets so much be under way in a session, 2 MiB with OpenSSH, and no more until it hears that this arrived:
over 50 ms of round trip 40 MB/s, however fast the network is. So the blocks of a large transfer take turns over several
sessions, each of which is a ``cat`` into a pipe with a name; the courier reads the pipes in the same turns. Carried to
machines beside the runner: standard library, Python 3.8+.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import tempfile
from typing import Callable, List

from backends.runner.wire import Cut

MOST_LANES = 7
HELLO = b"+"
"""What comes first on each lane: it is open then."""
PATIENCE_SECONDS = 60.0
PIPE_BYTES = 1 << 20
SET_PIPE_SIZE = 1031
"""F_SETPIPE_SZ of Linux, which older Pythons do not name."""


class Lanes:
    """The far end of ``count`` lanes; their pipes are named 0, 1, ... in ``folder``, which is closed to others."""

    def __init__(self, count: int) -> None:
        self.folder = tempfile.mkdtemp(prefix="gpujob-lanes-")
        self._pipes: List[int] = []
        for number in range(min(count, MOST_LANES)):
            path = os.path.join(self.folder, str(number))
            os.mkfifo(path, 0o600)
            pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            self._pipes.append(pipe)
            with contextlib.suppress(OSError):  # not on Linux, or not allowed: the usual size does it too
                fcntl.fcntl(pipe, SET_PIPE_SIZE, PIPE_BYTES)

    def opened(self, count: int) -> List[Callable[[int], bytes]]:
        """How to read the first ``count`` of them, once each is open. Raises Cut."""
        return [self._opened(pipe) for pipe in self._pipes[:count]]

    def _opened(self, pipe: int) -> Callable[[int], bytes]:
        ready, _, _ = select.select([pipe], [], [], PATIENCE_SECONDS)
        if not ready or os.read(pipe, 1) != HELLO:
            raise Cut("a lane did not open")
        os.set_blocking(pipe, True)
        return lambda count: os.read(pipe, count)

    def close(self) -> None:
        """Whoever still writes is told that nobody reads."""
        for pipe in self._pipes:
            os.close(pipe)
        shutil.rmtree(self.folder, ignore_errors=True)
