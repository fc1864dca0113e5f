"""The lease life cycle of Colab: a claim on a session that a person has started, through a mailbox on Drive.

This end decides who runs what, since each job has one worker here and no two agents can agree on Drive. A claim names
one agent; it is written down on this computer before Drive hears of it, and never given to a second one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING

from backends.base import (
    AuthError,
    BackendError,
    Fate,
    Gone,
    Lease,
    LeaseRequest,
    Machine,
    NoCapacity,
    NotYetGone,
    NotYetReady,
    Offer,
    Rejected,
    SetupState,
    asked_state,
)
from backends.channels.drive_replies import SETUP_COMMAND
from backends.colab import offers as table
from backends.colab.agent.session import LEASE_SECONDS, MAILBOX
from backends.colab.choosing import chosen, needs_of
from backends.colab.lease import lease_of
from backends.colab.records import Claim, Records
from backends.colab.sessions import SessionFacts
from backends.colab.settings import ACCEPT_COMMAND, CREDENTIAL, NAME, Settings
from backends.failpoints import failpoint
from backends.packages import first_missing

if TYPE_CHECKING:
    from backends.channels.drive import Drive
    from backends.colab.notebook_machine import NotebookMachine, Talk
    from backends.colab.post import Post

ROAD = "notebook"
PACKAGES = ("googleapiclient", "google_auth_oauthlib")


class ByNotebook:
    """The life cycle of leases that are claims on sessions which a person has started."""

    def __init__(self, root: Path, settings: Settings, records: Records) -> None:
        self._root = root
        self._settings = settings
        self._lock = Lock()
        self._opened: Post | None = None
        self._talks: dict[str, Talk] = {}
        self._records = records

    # --- offers ---

    def offers(self, used: table.Used) -> Iterable[Offer]:
        """The dated table; where a session is up, what it has."""
        lacking = self._lacking()
        sessions = [] if lacking else self.post.sessions()
        return table.offers(self._settings, used, sessions, lacking, self._terms())

    # --- life cycle ---

    def create(self, request: LeaseRequest, patient: Callable[[NoCapacity], NoCapacity]) -> Lease:
        """Give the job to a session that fits.

        Raises NoCapacity: while nobody has opened a session or all are at work the caller may wait, up to
        ``colab.patience``; where those there do not fit the numbers say why.
        """
        if missing := self._lacking() or (self._terms() if self._settings.plan == "free" else ""):
            raise AuthError(f"Colab cannot be used yet: {missing}")
        if request.max_seconds < 1:
            raise Rejected(f"{request.offer.name!r} for {request.max_seconds:g} s is nothing that Colab could give")
        claim = self._records.get(request.key) or self._new_claim(request, patient)
        if not claim.folder:
            folder = self.post.make_folder(claim.key)
            failpoint("colab.create:folder")
            began = self.post.now().timestamp()
            claim = self._records.change(claim.key, folder=folder, began=began)
        self.post.publish(claim, needs_of(request))
        failpoint("colab.create:claimed")
        return lease_of(claim)

    def _new_claim(self, request: LeaseRequest, patient: Callable[[NoCapacity], NoCapacity]) -> Claim:
        """Whom the job goes to."""
        sessions = self.post.sessions()
        with self._records.choosing():
            try:
                session = chosen(request, self._settings.plan, sessions, self._records.just_given())
            except NoCapacity as no:
                raise patient(no) from None
            return self._records.put(self._claim_on(session, request))

    def _claim_on(self, session: SessionFacts, request: LeaseRequest) -> Claim:
        kind = table.kind_of(session.gpu)
        assert kind
        assert kind.units is not None
        ends = request.ends_at.timestamp() if request.ends_at else time.time() + request.max_seconds
        return Claim(
            key=request.key,
            offer=request.offer.name,
            agent=session.id,
            nonce=token_hex(8),
            ends_at=ends,
            units_per_hour=kind.units,
            micros_per_hour=kind.micros_per_hour(self._settings.plan),
            root=session.root,
            gpu_count=session.gpu_count,
            made=time.time(),
        )

    def find(self, key: str) -> Lease | None:
        """The claim that carries ``key``; also one of whose making this computer's notes were lost."""
        claim = self._records.get(key)
        if claim is not None:
            return lease_of(claim) if claim.folder and not claim.ended else None
        if self._lacking():
            return None
        folder = self.post.folders().get(key)
        return Lease(key, NAME, folder.id, folder.created) if folder else None

    def owned(self) -> Iterable[Lease]:
        """Every claim of this home: as noted here, and as it lies in the mailbox. Raises AuthError without access to
        it, unless nothing is noted.
        """
        open_claims = [claim for claim in self._records.all() if claim.road == ROAD and not claim.ended]
        if missing := self._lacking():
            if open_claims:
                raise AuthError(f"what this home has claimed on Colab cannot be looked at: {missing}")
            return []
        noted = {claim.key: lease_of(claim) for claim in open_claims if claim.folder}
        there = {key: Lease(key, NAME, each.id, each.created) for key, each in self.post.folders().items()}
        return [*(there | noted).values()]

    def delete(self, lease: Lease) -> None:
        """Take the job back: the session ends what runs and is free. Raises NotYetGone until it says so."""
        claim = self._records.get(lease.key)
        if claim and claim.ended:
            return
        self.post.withdraw(lease.key, lease.id)
        failpoint("colab.delete:withdrawn")
        if claim is None:
            return
        session = self._session_of(claim, fresh=True)
        if session and session.nonce == claim.nonce:
            raise NotYetGone(f"session {claim.agent} has not let go of the job yet")
        ended = self.post.now().timestamp()
        if claim.began:
            hours = max(0.0, ended - claim.began) / 3600
            self._records.note_used(claim.offer, hours * 3600, hours * claim.units_per_hour, time.time())
        self._records.change(lease.key, ended=ended)
        self._talks.pop(lease.key, None)
        shutil.rmtree(self._root / "incoming" / lease.key, ignore_errors=True)
        with suppress(BackendError):  # what others have left is no concern of this lease
            self.post.sweep()

    def connect(self, lease: Lease) -> Machine:
        """Reach the session that serves the claim. Raises NoCapacity where it refuses the job, with its numbers."""
        claim = self._records.get(lease.key)
        if claim is None:
            raise Gone(f"nobody knows which session claim {lease.key} was given to", Fate.GONE)
        session = self._session_of(claim)
        if session and claim.nonce in session.refused:
            raise NoCapacity(f"session {session.id} ({session.described()}) refuses: {session.refused[claim.nonce]}")
        if session and session.nonce == claim.nonce:
            if not claim.taken:
                self._records.change(lease.key, taken=True)
            return self._machine(lease.key)
        if claim.taken or session is None:
            raise Gone(self._what_became(claim, session), Fate.GONE)
        raise NotYetReady(f"session {claim.agent} has not taken the job yet")

    def _what_became(self, claim: Claim, session: SessionFacts | None) -> str:
        if session is None:
            minutes = round(LEASE_SECONDS / 60)
            return f"Colab session {claim.agent} ended, or vanished: it gave no sign for more than {minutes} min"
        return f"Colab session {claim.agent} could not reach Drive for too long and gave the job up"

    def _session_of(self, claim: Claim, *, fresh: bool = False) -> SessionFacts | None:
        sessions = self.post.sessions(fresh=fresh)
        return next((session for session in sessions if session.id == claim.agent), None)

    def remains(self, lease: Lease) -> Machine | None:
        """What the session has left on Drive; None where nobody knows what it served."""
        from backends.colab.notebook_machine import Remains

        claim = self._records.get(lease.key)
        return self._machine(lease.key, Remains) if claim and claim.folder and not claim.ended else None

    def _machine(self, key: str, kind: type[NotebookMachine] | None = None) -> Machine:
        from backends.colab.notebook_machine import NotebookMachine, Talk

        with self._lock:
            talk = self._talks.setdefault(key, Talk())
        incoming = self._root / "incoming" / key
        poll = self._settings.poll
        return (kind or NotebookMachine)(
            self.post, self._records, talk, key, incoming, lambda: self._check(key), self._refresh_token, poll
        )

    def _check(self, key: str) -> None:
        """Raise Gone where the session does not serve the claim any more."""
        claim = self._records.get(key)
        session = self._session_of(claim) if claim else None
        if claim is None or session is None or session.nonce != claim.nonce:
            raise Gone(self._what_became(claim, session) if claim else "the claim is over", Fate.GONE)

    # --- what is known afterwards ---

    def fate(self, lease: Lease) -> Fate:
        """What became of the session."""
        claim = self._records.get(lease.key)
        if claim is None:
            return Fate.GONE
        session = self._session_of(claim)
        here = session is not None and (session.nonce == claim.nonce or not claim.taken)
        return Fate.ALIVE if here else Fate.GONE

    def held_seconds(self, lease: Lease) -> float | None:
        """By Drive's clock, from the claim to the end."""
        claim = self._records.get(lease.key)
        if claim is None:
            return None
        return max(0.0, (claim.ended or self.post.now().timestamp()) - claim.began)

    def try_key(self, key: str) -> list[str]:
        """Whose Drive it is and how much room it has; the mailbox is made. Raises AuthError where that is refused."""
        from backends.channels.drive_login import Token

        drive = self._new_drive(lambda: key)
        account = drive.account()
        drive.ensure_folder(MAILBOX, "gpujob")
        room = "no limit" if account.limit is None else f"{(account.limit - account.used) / 1e9:.1f} GB free"
        life = Token.read(key).lifetime(datetime.now(UTC))
        return [f"the Drive of {account.email} can be used; {room}", *([life] if life else [])]

    def sign_in(self, client: Path, *, browser: bool = True) -> str:
        """A token by signing in, in the browser, with the desktop client of ``client``. Raises AuthError, Rejected."""
        import json

        from backends.channels.drive_login import sign_in

        try:
            known = json.loads(client.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Rejected(f"{client} cannot be read: {error}", advice=CREDENTIAL.made_at) from error
        return sign_in(known, browser=browser).text()

    def setup_state(self) -> SetupState:
        """Whether Drive can be used, and who is there."""
        if package := first_missing(PACKAGES):
            return SetupState(False, "not installed", f"the Python package {package}", "pip install 'gpujob[colab]'")
        if not self._settings.credential():
            return SetupState(False, "no access to Google Drive", "access to a Google Drive", SETUP_COMMAND)
        if self._settings.plan == "free" and self._terms():
            return SetupState(
                False, "its terms are not agreed to", "your consent to what Google forbids", ACCEPT_COMMAND
            )
        return asked_state("Google Drive", "access to Google Drive is refused", self._summary)

    def _summary(self) -> str:
        count = len(self.post.sessions())
        return f"Google Drive can be used, {count} Colab session{'' if count == 1 else 's'} running"

    # --- inside ---

    @property
    def post(self) -> Post:
        """The mailbox; all threads share it."""
        with self._lock:
            if self._opened is None:
                from backends.colab.post import Post

                drive = self._new_drive(self._settings.credential)
                self._opened = Post(drive, self._records.owner(), self._settings.poll)
            return self._opened

    def _new_drive(self, token: Callable[[], str | None]) -> Drive:
        if package := first_missing(PACKAGES):
            raise Rejected(f"Colab needs the Python package {package!r}", advice="pip install 'gpujob[colab]'")
        from backends.channels.drive import Drive
        from backends.channels.drive_session import API

        return Drive(token, api=self._settings.api or API)

    def _refresh_token(self) -> str:
        from backends.channels.drive_login import Token

        return Token.read(self._settings.credential()).refresh_token

    def _lacking(self) -> str:
        """What has to be set up before anything can be had, in words; empty if nothing has."""
        if package := first_missing(PACKAGES):
            return f"Colab needs the Python package {package}: pip install 'gpujob[colab]'"
        return "" if self._settings.credential() else f"Colab has no access to Google Drive: {SETUP_COMMAND}"

    def _terms(self) -> str:
        return (
            "" if self._records.accepted() else f"Colab's free tier needs your consent to its terms: {ACCEPT_COMMAND}"
        )
