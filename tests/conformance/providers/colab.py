"""Colab: an emulated Drive, and the agent of a notebook in a thread."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from backends.base import Need
from backends.colab.agent.session import Session
from backends.colab.backend import ColabBackend
from backends.colab.settings import Settings
from backends.testing.calls import eventually
from tests.conformance.providers.adapter import Adapter, Bench
from tests.emulators.drive import DriveEmulator

FOLDER = "application/vnd.google-apps.folder"


class Colab(Adapter):
    name = "colab"
    need = Need()
    unfit = {
        "owned": "its mailbox is made by this app alone, and nothing in it has a name that others give",
        "never_reachable": "only a session that has just given sign is chosen; one that falls silent is told as gone",
        "dearer": "a session tells what it is before it is chosen, and a dearer one is not taken",
        "ends_alone": "it is the user's own notebook: its agent ends the run at its hour, then the session",
    }

    def __init__(self, bench: Bench, drive: DriveEmulator) -> None:
        super().__init__(bench)
        self.drive = drive
        self.token = json.dumps(drive.sign_in())
        self.secrets = [json.loads(self.token)["refresh_token"]]
        self.agents: list[Session] = []
        first = self.backend()
        first.accept_terms()
        first.try_key(self.token)
        self._open_notebook(first)

    def _open_notebook(self, backend: ColabBackend) -> None:
        agent = Session(json.loads(self.token), pace=0.02)
        threading.Thread(target=agent.run, name="agent").start()
        self.agents.append(agent)
        eventually(backend.post.sessions, "the agent")

    def backend(self, home: str = "home") -> ColabBackend:
        settings = Settings(credential=lambda: self.token, api=self.drive.url, poll=0.1)
        return ColabBackend(self.bench.folder / home, settings)

    def unready(self) -> ColabBackend:
        return ColabBackend(self.bench.folder / "unready", Settings(credential=lambda: None, api=self.drive.url))

    def machines(self) -> Sequence[str]:
        """Folders of leases: an agent that finds its own gone lets go of the job."""
        backend = self.backend()
        return [entry.id for entry in backend.post.folders().values()]

    def vanish(self, machine: str) -> None:
        """The session ends, and its claim with it."""
        self.close()
        self.backend().post.drive.delete(machine)

    def lose_reply(self) -> None:
        self.drive.faults.lost_reply()

    def lag(self) -> None:
        self.drive.faults.list_lag(1.0)

    def no_capacity(self) -> None:
        """Nobody has a notebook open."""
        self.close()
        eventually(lambda: not self.backend().post.sessions(fresh=True), "the end of the session")

    def close(self) -> None:
        while self.agents:
            self.agents.pop().stop()
        while any(thread.name == "agent" for thread in threading.enumerate()):
            time.sleep(0.02)


@contextmanager
def colab(bench: Bench) -> Iterator[Colab]:
    with DriveEmulator() as drive:
        bench.patch.setenv("GPUJOB_DRIVE_API", drive.url)
        adapter = Colab(bench, drive)
        yield adapter
        adapter.close()
