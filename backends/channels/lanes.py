"""The near end of ``runner/lanes.py``: how many sessions a transfer to a machine takes, and opening them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from backends.base import Transient
from backends.channels.ssh_connection import Conversation
from backends.runner.lanes import HELLO, MOST_LANES
from backends.runner.wire import Outgoing, WireError

SERVER_WINDOW_BYTES = 1 << 21
"""What OpenSSH lets be under way in a session."""

WORTHWHILE_RATE = 160e6
"""Bytes per second: faster than most networks between a home and a rented machine."""

LONGEST_NAME = 200


def lanes_for(round_trip: float) -> int:
    """How many sessions beside the first keep a line busy whose round trip takes so many seconds."""
    return min(MOST_LANES, max(0, math.ceil(round_trip * WORTHWHILE_RATE / SERVER_WINDOW_BYTES) - 1))


@contextmanager
def more_lanes(conversation: Conversation, out: Outgoing, folder: Any, count: int) -> Iterator[None]:
    """While the block runs, what is put ``out`` takes up to ``count`` lanes more, where the machine has made a
    ``folder`` for them. A server that has no room for so many sessions is content with fewer.
    """
    if folder is None:
        yield
        return
    if not isinstance(folder, str) or len(folder) > LONGEST_NAME:
        raise WireError("the folder of the lanes has no name")
    with ExitStack() as sessions:
        lanes: list[Conversation] = []
        with suppress(Transient):
            for number in range(count):
                lane = conversation.beside(f"exec cat > {shlex.quote(f'{folder}/{number}')}")
                sessions.enter_context(lane).write(HELLO)
                lanes.append(lane)
        out.line({"lanes": len(lanes)})
        out.flush()
        out.spread([lane.write for lane in lanes])
        yield
