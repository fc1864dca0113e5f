"""This machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backends.base import LeaseRequest
from backends.local import LocalBackend, open_backend
from tests.conformance.providers.adapter import Adapter, Bench


class Local(Adapter):
    name = "local"
    unfit = {
        "setup": "it needs no setting up",
        "lost_reply": "nothing is asked over a network",
        "lost_reply_and_stale_list": "nothing is asked over a network",
        "owned": "its leases are files of one home, which nobody else writes",
        "never_reachable": "it is where the backend itself runs",
        "dearer": "its price is what the user has set",
        "ends_alone": "it is the user's own, and costs only while the runner works, which ends by itself",
        "secrets": "it has no key",
    }

    def backend(self, home: str = "home") -> LocalBackend:
        return open_backend(self.bench.folder / home, {"price_per_hour": 120_000, "slots": 1})

    def machines(self) -> Sequence[str]:
        """Slices that are held."""
        held = [json.loads(path.read_text()) for path in self._leases("*")]
        return [each["key"] for each in held if each["ended"] is None]

    def vanish(self, machine: str) -> None:
        for path in self._leases(machine):
            path.unlink()

    def no_capacity(self) -> None:
        """The one place for CPU jobs is taken."""
        backend = self.backend()
        offer = next(offer for offer in backend.offers(self.need) if offer.name == "cpu")
        backend.create(LeaseRequest("other-abcde-a1", offer, max_seconds=60))

    def _leases(self, key: str) -> list[Path]:
        return sorted((self.bench.folder / "home" / "leases").glob(f"{key}.json"))


@contextmanager
def local(bench: Bench) -> Iterator[Local]:
    yield Local(bench)
