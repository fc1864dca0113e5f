"""What comes home from a machine whose provider charges for it: counted, paid out of the reservation, bounded by it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock

from backends.base import Counted
from backends.billing import Price
from backends.durable import keep
from backends.units import format_size, format_usd
from orchestrator.lifecycle.endings import TooDear

AHEAD_BYTES = 8_000_000
"""On record before they come: a crash in between counts so many too much, and never too little."""

SHARE_OF_CHECKPOINTS = 0.5
"""Of the traffic that was planned; the rest is kept for the results."""

UNSEEN_BYTES = 32_000_000
"""What may come until it is asked again whether more can be paid for."""


class Traffic:
    """The traffic of one attempt, on record in the file ``path``. Used by all threads of its worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._recorded = self._earlier = _read(path)
        self._now = 0

    @property
    def bytes(self) -> int:
        """All that has come, with what earlier workers had on record."""
        return self._earlier + self._now

    def heard(self, machine: object) -> None:
        """Count what has come from ``machine`` by now."""
        if not isinstance(machine, Counted):
            return
        received = machine.received_bytes
        with self._lock:
            if received < self._now:  # reached anew under another address: that count begins at 0
                self._earlier += self._now
            self._now = received
            if self.bytes > self._recorded:
                self._recorded = self.bytes + AHEAD_BYTES
                with suppress(OSError):  # a full disk here must not end a run; this worker knows all the same
                    keep(self._path, str(self._recorded))


def with_traffic(price: Price, traffic: Traffic) -> Price:
    """The price with what has really come; with what was planned where nobody has counted."""
    return replace(price, egress_bytes=traffic.bytes) if traffic.bytes else price


def checkpoints_may_come(price: Price, traffic: Traffic) -> bool:
    """Whether what was planned leaves room for another copy of the checkpoints."""
    planned = price.egress_bytes * SHARE_OF_CHECKPOINTS
    return not price.billing.egress_micros_per_gb or traffic.bytes < planned


def enough_words(price: Price, traffic: Traffic) -> str:
    """Why no more checkpoints are brought home during the run."""
    return (
        f"{format_size(traffic.bytes)} have come home at {format_usd(price.billing.egress_micros_per_gb)}/GB; the rest "
        f"of the {format_size(price.egress_bytes)} that the plan pays for is kept for the results, so no more "
        "checkpoints are copied while this attempt runs. Set limits.download to have more paid for"
    )


def stop_if_too_dear(price: Price, traffic: Traffic, lacking_bytes: int, seconds: float, reserved_micros: int) -> None:
    """Raises TooDear once what has come, and the machine's ``seconds``, take all that is reserved; ``lacking_bytes``
    are still to come of what is under way.

    What a run did not use of its time pays for traffic beyond what was planned.
    """
    if not price.billing.egress_micros_per_gb or not traffic.bytes:
        return
    most = replace(price, egress_bytes=traffic.bytes + min(lacking_bytes, UNSEEN_BYTES))
    if most.micros(seconds) > reserved_micros:
        raise TooDear(
            f"{format_size(traffic.bytes)} have come home at {format_usd(price.billing.egress_micros_per_gb)}/GB, and "
            f"more would cost more than the {format_usd(reserved_micros)} that are reserved for this attempt; set "
            "limits.download to what its results and checkpoints take"
        )


def _read(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0
