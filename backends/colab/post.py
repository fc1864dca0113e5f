"""The mailbox as this end sees it: who is there, which claims are ours, and the files of a lease."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from backends.base import Transient
from backends.colab.agent.session import MAILBOX
from backends.colab.records import Claim
from backends.colab.sessions import SessionFacts, session_facts
from backends.recent import Recent

if TYPE_CHECKING:
    from backends.channels.drive import Drive
    from backends.channels.drive_replies import Entry

LEASE_KEY = "gpujob-lease"
LARGEST_FACTS = 1 << 20


class Post:
    """The mailbox of one Drive. Threads share it, and with it the listing of who is there.

    ``poll`` are the seconds that a listing is good for: a hundred waiting jobs ask Drive no more often than one.
    """

    def __init__(self, drive: Drive, owner: str, poll: float) -> None:
        self.drive = drive
        self._owner = owner
        self._listing: Recent[list[Entry]] = Recent(poll, time.monotonic)
        self._lock = Lock()
        self._read: dict[str, tuple[str | None, SessionFacts | None]] = {}

    @property
    def mailbox(self) -> str:
        """The id of the mailbox folder, made if there is none."""
        return self.drive.ensure_folder(MAILBOX, "gpujob")

    def now(self) -> datetime:
        """Drive's time."""
        return self.drive.now()

    def sessions(self, *, fresh: bool = False) -> list[SessionFacts]:
        """Every agent that may still be there, the oldest first."""
        entries = self._entries(fresh=fresh)
        found = [self._facts(each) for each in entries if each.name.startswith("agent-")]
        alive = [each for each in found if each and each.alive(self.now())]
        return sorted(alive, key=lambda each: (each.started_at, each.id))

    def _entries(self, *, fresh: bool = False) -> list[Entry]:
        def read() -> list[Entry]:
            return self.drive.list_files(self.mailbox)

        return self._listing.fresh(read) if fresh else self._listing.get(read)

    def _facts(self, entry: Entry) -> SessionFacts | None:
        with self._lock:
            version, facts = self._read.get(entry.id, (None, None))
            if version is None or version != entry.sha256:
                if entry.size > LARGEST_FACTS:
                    return None
                with suppress(Transient):  # damaged, or older than it says: the next heartbeat mends it
                    facts = session_facts(self.drive.content(entry), entry.modified)
                    self._read[entry.id] = (entry.sha256, facts)
            return facts

    # --- claims ---

    def lease_key(self, key: str) -> str:
        """The key of a lease's folder, with this home's mark."""
        return f"{LEASE_KEY}-{self._owner}-{key}"

    def folders(self) -> dict[str, Entry]:
        """The folders of our leases by the lease's key."""
        prefix = self.lease_key("")
        found = [each for each in self._entries(fresh=True) if each.folder and (each.key or "").startswith(prefix)]
        return {(each.key or "").removeprefix(prefix): each for each in found}

    def make_folder(self, key: str) -> str:
        """The folder of a lease, made if there is none; its id."""
        return self.drive.ensure_folder(self.lease_key(key), key, self.mailbox)

    def publish(self, claim: Claim, needs: dict[str, int]) -> None:
        """Give the claim to its agent. Doing it again changes nothing."""
        said = {name: value for name, value in asdict(claim).items() if name in ("key", "agent", "nonce", "folder")}
        text = json.dumps(said | {"ends_at": claim.ends_at, "needs": needs})
        self.drive.put_bytes(self.mailbox, f"claim-{claim.key}.json", text.encode())

    def withdraw(self, key: str, folder: str) -> None:
        """Remove the claim and all that was carried for it. Absent is success."""
        for each in self._entries(fresh=True):
            if each.name == f"claim-{key}.json":
                self.drive.delete(each.id)
        if folder:
            self.drive.delete(folder)

    def tell_to_end(self, agent: str) -> None:
        """Ask an agent to end its session."""
        self.drive.put_bytes(self.mailbox, f"end-{agent}", b"end")

    def sweep(self) -> None:
        """Remove twins that have lost, what agents left that are long gone, and claims that no list showed when they
        were withdrawn.
        """
        self.drive.tidy(self.mailbox)
        here = {each.id for each in self.sessions(fresh=True)}
        now = self.now()
        for each in self._entries():
            kind, _, name = each.name.partition("-")
            gone = kind in ("agent", "end", "claim") and name.removesuffix(".json") not in here
            if gone and (now - each.modified).total_seconds() > OLD_SECONDS:
                self.drive.delete(each.id)

    def files(self, folder: str) -> dict[str, Entry]:
        """The files of a lease by name."""
        return {each.name: each for each in self.drive.list_files(folder)}

    def json_of(self, entry: Entry) -> Any:
        """A JSON file's value; None where it is none, or absurdly large."""
        if entry.size > LARGEST_JSON:
            return None
        try:
            return json.loads(self.drive.content(entry))
        except (ValueError, RecursionError):
            return None


OLD_SECONDS = 2 * 86400.0
"""No session lives half as long; until then an agent's file tells whoever asks what became of it."""
LARGEST_JSON = 64 << 20
"""Bytes of a listing of a million files; nothing larger is read into memory."""
