"""What goes wrong at Lambda, on demand."""

from __future__ import annotations

from tests.emulators.faultrules import ALWAYS, FaultRules

LAUNCH = "/api/v1/instance-operations/launch"


class Faults(FaultRules):
    """All rules. Filters: ``method``, ``path``, ``region``."""

    def error(self, status: int, code: str, times: int = 1, path: str | None = None) -> None:
        """A refusal, or a 5xx, before anything is done."""
        self._add("reply", times, {"path": path}, status=status, code=code)

    def lost_reply(self, times: int = 1, path: str = LAUNCH) -> None:
        """The request is carried out, then the connection ends without an answer."""
        self._add("lost", times, {"path": path})

    def no_capacity(self, times: int = ALWAYS, region: str | None = None) -> None:
        """Launches are refused, though the list of types said that one is free."""
        self._add("no capacity", times, {"region": region})

    def never_ready(self, times: int = 1) -> None:
        """The machine is booting for ever, and is billed."""
        self._add("never ready", times, {})

    def stale_list(self, seconds: float, times: int = 1) -> None:
        """A new machine is missing from lists for so long."""
        self._add("stale list", times, {}, seconds=seconds)

    def dearer(self, cents: int, times: int = 1) -> None:
        """The new machine costs so much more an hour than its type was listed with."""
        self._add("dearer", times, {}, cents=cents)
