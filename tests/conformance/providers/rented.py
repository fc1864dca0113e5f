"""The tests' own provider of rented machines, whose backend is written as third parties write theirs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends.base import Backend
from orchestrator.lifecycle import registry
from tests.conformance.providers.adapter import Adapter, Bench
from tests.plugins import opener

PROVIDER = Path(__file__).parents[2] / "crash" / "rented_cloud"


class Rented(Adapter):
    name = "rented"
    unfit = {
        "setup": "it has no key",
        "secrets": "it has no key",
        "owned": "every home has an account of its own",
        "lost_reply_and_stale_list": "its list is the folder of its machines",
        "ends_alone": "only the runner's watchdog does, once a job has been started",
    }

    @property
    def cloud(self) -> Any:
        return self._open().cloud

    def backend(self, home: str = "home") -> Backend:
        del home
        backend: Backend = self._open()
        return backend

    def _open(self) -> Any:
        return opener("rented")(self.bench.folder / "rented", {})

    def machines(self) -> Sequence[str]:
        return [machine["id"] for machine in self.cloud.machines() if machine["state"] != "deleted"]

    def vanish(self, machine: str) -> None:
        key = next(each["key"] for each in self.cloud.machines() if each["id"] == machine)
        self.cloud.end(key, "deleted")

    def lose_reply(self) -> None:
        self.cloud.set_fault("create_lost", "1")

    def no_capacity(self) -> None:
        self.cloud.set_fault("no_capacity")

    def never_reachable(self) -> None:
        self.cloud.set_fault("never_ready")

    def raise_price(self) -> None:
        self.cloud.set_fault("rate", "5000000")


@contextmanager
def rented(bench: Bench) -> Iterator[Rented]:
    bench.patch.syspath_prepend(str(PROVIDER))
    registry._installed.cache_clear()
    yield Rented(bench)
    registry._installed.cache_clear()
    sys.modules.pop("rented_cloud", None)
