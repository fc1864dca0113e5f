"""Google Colab, on one of two roads: notebooks that a person opens, or runtimes that Google's command line starts.

The road is chosen for new leases; what is leased already stays on the road that its claim names.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backends.base import Fate, Lease, LeaseRequest, Machine, Need, NoCapacity, Offer, SetupState
from backends.colab import offers as table
from backends.colab.by_command import ROAD as COMMAND
from backends.colab.by_command import ByCommand
from backends.colab.by_notebook import ROAD as NOTEBOOK
from backends.colab.by_notebook import ByNotebook
from backends.colab.records import WEEK, Records
from backends.colab.settings import CREDENTIAL, NAME, TERMS, Settings
from backends.units import format_duration

if TYPE_CHECKING:
    from backends.colab.command_words import Usage
    from backends.colab.post import Post

WHY = {
    ("auto", NOTEBOOK, True): "`colab.plan` is free, and Google allows the command on a paid balance only",
    ("auto", NOTEBOOK, False): "Google's command `colab` is not installed",
    ("auto", COMMAND, True): "Google's command `colab` is there, and `colab.plan` says that you pay",
}
"""Why a road is taken, by the setting, the road, and whether the command is found."""


class ColabBackend:
    """Colab's free tier, Colab Pro and compute units."""

    name = NAME
    credential = CREDENTIAL

    def __init__(self, root: Path, settings: Settings) -> None:
        self._settings = settings
        self.records = Records(root)
        self._notebook = ByNotebook(root, settings, self.records)
        self._command = ByCommand(root, settings, self.records)

    # --- which road ---

    @property
    def road(self) -> str:
        """``notebook`` or ``command``, for what is leased from now on."""
        if self._settings.road != "auto":
            return self._settings.road
        return COMMAND if self._settings.plan != "free" and self._command.found else NOTEBOOK

    @property
    def why_this_road(self) -> str:
        """In words."""
        return WHY.get((self._settings.road, self.road, self._command.found), f"`colab.road` is {self._settings.road}")

    @property
    def _new(self) -> ByNotebook | ByCommand:
        return self._command if self.road == COMMAND else self._notebook

    def _of(self, key: str) -> ByNotebook | ByCommand:
        """The road of a lease; of one that nothing is noted of, the one that can have it."""
        claim = self.records.get(key)
        if claim is not None:
            return self._command if claim.road == COMMAND else self._notebook
        return self._command if self._command.has_notes_of(key) else self._notebook

    # --- the life cycle ---

    def offers(self, need: Need) -> Iterable[Offer]:
        """What the road gives; each says which road it is."""
        del need
        return self._new.offers(self.used())

    def create(self, request: LeaseRequest) -> Lease:
        """Give the job to a session that fits, or start a runtime for it.

        Raises NoCapacity: ``busy_for_now`` where the caller may wait, up to ``colab.patience``.
        """
        since = self.records.waiting_since(request.key)

        def patient(no: NoCapacity) -> NoCapacity:
            if not no.busy_for_now or time.time() - since < self._settings.patience:
                return no
            return NoCapacity(f"{no}; waited {format_duration(self._settings.patience)} (colab.patience)")

        claim = self.records.get(request.key)
        return (self._of(request.key) if claim else self._new).create(request, patient)

    def find(self, key: str) -> Lease | None:
        """The claim that carries ``key``."""
        return self._of(key).find(key)

    def owned(self) -> Iterable[Lease]:
        """Every claim of this home, on both roads. Raises AuthError where one that may have some cannot be asked."""
        return [*self._notebook.owned(), *self._command.owned()]

    def delete(self, lease: Lease) -> None:
        """Take the job back, or stop the runtime. Raises NotYetGone until that is done."""
        self._of(lease.key).delete(lease)

    def connect(self, lease: Lease) -> Machine:
        """Reach the session or the runtime."""
        return self._of(lease.key).connect(lease)

    def setup_state(self) -> SetupState:
        """Whether Colab can be used, on which road, and why on that one."""
        state = self._new.setup_state()
        return replace(state, summary=f"by {self.road}, as {self.why_this_road}: {state.summary}")

    # --- what is known afterwards ---

    def fate(self, lease: Lease) -> Fate:
        """What became of it."""
        return self._of(lease.key).fate(lease)

    def held_seconds(self, lease: Lease) -> float | None:
        """From the claim to the end."""
        return self._of(lease.key).held_seconds(lease)

    def remains(self, lease: Lease) -> Machine | None:
        """What a session that is gone has left on Drive; nothing outlives a runtime that the command started."""
        road = self._of(lease.key)
        return road.remains(lease) if isinstance(road, ByNotebook) else None

    def settled(self, lease: Lease) -> None:
        """The claim is accounted for."""
        self.records.forget(lease.key)

    # --- the account ---

    def used(self) -> table.Used:
        """What our own jobs have used, by this computer's notes."""
        now, free, units = time.time(), 0.0, 0.0
        month = datetime.fromtimestamp(now, UTC).strftime("%Y-%m")
        for line in self.records.used():
            at = float(line["at"])
            if str(line["offer"]) in table.WITH_QUOTA and now - at < WEEK:
                free += float(line["seconds"])
            if not str(line["offer"]).startswith("free") and datetime.fromtimestamp(at, UTC).strftime("%Y-%m") == month:
                units += float(line["units"])
        return table.Used(free, units)

    def usage(self) -> Usage | None:
        """What Google says of the account's balance; None where nobody can tell."""
        return self._command.usage()

    @property
    def drive_is_set_up(self) -> bool:
        """Whether there is access to Drive."""
        return self._settings.credential() is not None

    @property
    def post(self) -> Post:
        """The mailbox on Drive."""
        return self._notebook.post

    def try_key(self, key: str) -> list[str]:
        """See Keyed: access to Drive, which only notebooks need."""
        return self._notebook.try_key(key)

    def sign_in(self, client: Path, *, browser: bool = True) -> str:
        """See SignedIn."""
        return self._notebook.sign_in(client, browser=browser)

    def accept_terms(self) -> None:
        """The user agrees to what the free tier forbids."""
        self.records.accept("\n".join(TERMS))
