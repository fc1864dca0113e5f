"""Somebody who rents from Google with the real command, from the emulator, and what must hold when they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e_kit import Gpujob, eventually, user_in

from orchestrator.config import Config
from orchestrator.home import Home
from tests.emulators.account_kit import Account, rows, tell
from tests.emulators.gce import Box, GceEmulator
from tests.emulators.gce_account_kit import account, boxes_of

SHORT = ("limits: {runtime: 1m}", "duration: {on: L4, minutes: 0.2}")
ON_L4 = ("needs: {gpu: L4, ram: 4 GB}", *SHORT)


@dataclass
class GceRenter(Gpujob):
    """A user whose only backend is the emulated Compute Engine."""

    cloud: GceEmulator | None = None

    def set(self, name: str, text: str) -> None:
        Config(Home(self.home).ensure().config).set(name, text)

    def rent(self, spec: str, *options: str, code: int = 0) -> dict[str, Any]:
        """Submit to Google, wait, and everything recorded of it."""
        return self.submit(spec, "--backend", "gce", "--yes", *options, code=code)

    def rent_detached(self, spec: str, *options: str) -> str:
        """Submit to Google and return at once; the job's id."""
        return self.detached(spec, "--backend", "gce", "--yes", *options)

    def over(self, job: str) -> dict[str, Any]:
        """The job once it is over."""
        query = "SELECT ended_at FROM job WHERE id = ? AND ended_at IS NOT NULL"
        eventually(lambda: rows(self.home, query, job), f"the end of {job}")
        return self.show(job)

    def box(self, number: int = 1) -> Box:
        """The instance that was rented as the ``number``-th, once it is."""
        assert self.cloud
        cloud = self.cloud
        found = eventually(lambda: boxes_of(cloud, self.home)[number - 1 :], f"instance {number}")
        return found[0]  # type: ignore[no-any-return]

    def fetched(self, detail: dict[str, Any], number: int, name: str) -> str:
        """A result file's text."""
        return (self.home / "jobs" / detail["id"] / f"attempt-{number}" / "files" / name).read_text()

    def until_said(self, job: str, number: int, word: str) -> None:
        """Wait until the command of an attempt has said it, at home."""
        log = self.home / "jobs" / job / f"attempt-{number}" / "stdout.log"
        eventually(lambda: log.exists() and word in log.read_text(), f"{word!r} of attempt {number} of {job}")


@contextmanager
def gce_renter_in(folder: Path, cloud: GceEmulator, told: Callable[[str, object], None]) -> Iterator[GceRenter]:
    """A renter; when the block ends nothing may be left of what was rented, and nothing may have cost too much."""
    with user_in(folder) as user:
        renter = GceRenter(user.home, user.cwd, cloud.env, cloud)
        for name, value in cloud.settings.items():
            renter.set(f"gce.{name}", str(value))
        yield renter
        eventually(lambda: not any(box.processes() for box in cloud.created), "the end of every process in instances")
        closed: Account = account(cloud, renter.home)
        tell(told, [closed])
        assert closed.clean, (closed, cloud.left())
        assert closed.unbooked == 0, closed
