"""Colab hands-free: runtimes that Google's command line `colab` starts, and that end themselves when their time is up.

A claim is noted before anything is asked for. Google gives a runtime no mark of ours, so one whose birth nobody heard
of is told by what is certain: it was not there before, is of the kind that was asked for, bears no claim, and nobody
has begun anything in it. Whatever fails that test is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from backends.base import (
    AuthError,
    BackendError,
    Fate,
    Gone,
    Lease,
    LeaseRequest,
    Lost,
    Machine,
    NoCapacity,
    NotYetGone,
    Offer,
    Rejected,
    SetupState,
    Transient,
)
from backends.colab import command_offers
from backends.colab.choosing import misfit, needs_of
from backends.colab.command import INSTALL, Command
from backends.colab.command_machine import CommandMachine, Talk
from backends.colab.command_words import Usage, trouble
from backends.colab.lease import lease_of
from backends.colab.offers import PAID_SESSION_HOURS, Used, kind_of
from backends.colab.records import Claim, Records
from backends.colab.sessions import SessionFacts, greeted
from backends.colab.settings import NAME, Settings
from backends.failpoints import failpoint
from backends.units import format_duration

ROAD = "command"
BUY = "https://colab.research.google.com/signup"
SETTLED_SECONDS = 30.0
"""A runtime is gone when no list has shown it for so long: lists lag."""
ASK_AGAIN_SECONDS = 60.0
"""After a refusal that may pass; Google is not asked more often, however many jobs wait."""


class ByCommand:
    """The life cycle of leases whose runtimes the command starts."""

    def __init__(self, root: Path, settings: Settings, records: Records) -> None:
        self._root, self._settings, self._records = root, settings, records
        self._command = Command(root / "command", settings.command)
        self._lock = Lock()
        self._talks: dict[str, Talk] = {}
        self._missing_since: dict[str, float] = {}
        self._refused: tuple[float, NoCapacity] | None = None

    @property
    def found(self) -> bool:
        """Whether the command is installed."""
        return self._command.found

    def has_notes_of(self, key: str) -> bool:
        """Whether a runtime of that key may be there, though nobody has a claim."""
        return f"gpujob-{key}" in self._command.names()

    # --- what there is ---

    def offers(self, used: Used) -> Iterable[Offer]:
        """Of the user's plan; none of them can be had without a positive balance."""
        if not self.found:
            return command_offers.offers(self._settings, used, None, "", f"Google's command `colab`: {INSTALL}")
        try:
            usage = self._command.usage()
        except BackendError as error:
            lacking = f"{error}: {error.advice}" if error.advice else str(error)
            return command_offers.offers(self._settings, used, None, self._command.version, lacking)
        return command_offers.offers(self._settings, used, usage, self._command.version, self._lacking(usage))

    def _lacking(self, usage: Usage | None) -> str:
        """What forbids this road, in words: the free tier's terms, above all."""
        if self._settings.plan == "free":
            return "Google allows remote control on a paid balance only: `gpujob config set colab.plan payg` or pro"
        if usage is not None and usage.balance <= 0:
            return f"your balance of compute units is {usage.balance:g}: {BUY}"
        return ""

    def setup_state(self) -> SetupState:
        """Whether it can be used from here."""
        if not self.found:
            return SetupState(False, "no command `colab`", "Google's command line for Colab", INSTALL)
        try:
            usage, up = self._command.usage(), len(self._command.sessions())
        except AuthError as error:
            return SetupState(False, "the command `colab` is not signed in", str(error), error.advice)
        except BackendError as error:
            return SetupState(False, "Colab cannot be asked now", str(error), error.advice or "try again later")
        if lacking := self._lacking(usage):
            return SetupState(False, "there is no paid balance", lacking, BUY)
        balance = "its balance it cannot tell" if usage is None else f"{usage.balance:g} compute units left"
        ours = sum(1 for claim in self._claims() if claim.folder)
        return SetupState(
            True, f"hands-free by `colab` {self._command.version}: {balance}, {up} runtimes up, {ours} of this home"
        )

    def usage(self) -> Usage | None:
        """The account's balance; None where it cannot be told."""
        with suppress(BackendError):
            return self._command.usage() if self.found else None
        return None

    # --- obtaining ---

    def create(self, request: LeaseRequest, patient: Callable[[NoCapacity], NoCapacity]) -> Lease:
        """Start a runtime, unless the key has one.

        Raises NoCapacity for what Google refuses, ``busy_for_now`` where it may pass; also for a runtime that is not
        what was planned with, or has no means to end itself: it is given back first. Lost while it cannot be told
        whether one was started.
        """
        claim = self._records.get(request.key)
        if claim is None or not claim.folder:
            try:
                claim = self._assigned(claim or self._new_claim(request))
            except (NoCapacity, AuthError, Rejected) as no:
                self._records.drop(request.key)
                raise patient(no) if isinstance(no, NoCapacity) else no from None
        return lease_of(self._greeted(claim))

    def _new_claim(self, request: LeaseRequest) -> Claim:
        shape = command_offers.shape_of(request.offer.name, self._settings.plan)
        if shape is None:
            raise Rejected(f"{request.offer.name!r} is nothing that may be asked of Colab: it might become an A100")
        if self._refused and time.monotonic() - self._refused[0] < ASK_AGAIN_SECONDS:
            raise self._refused[1]
        if lacking := self._lacking(self._command.usage()):
            raise AuthError(f"Colab cannot be used hands-free: {lacking}")
        now = time.time()
        ends = request.ends_at.timestamp() if request.ends_at else now + request.max_seconds
        return self._records.put(
            Claim(
                key=request.key,
                offer=request.offer.name,
                agent=f"gpujob-{request.key}",
                nonce="",
                road=ROAD,
                ends_at=min(ends, now + PAID_SESSION_HOURS * 3600),
                units_per_hour=shape.units,
                began=now,
                made=now,
                micros_per_hour=shape.most.micros_per_hour(self._settings.plan),
                needs=needs_of(request),
                before=sorted(self._command.sessions(fresh=True)),
            )
        )

    def _assigned(self, claim: Claim) -> Claim:
        """The claim with its runtime. What was asked for before a crash goes on by itself and is taken up here."""
        shape = command_offers.shape_of(claim.offer, self._settings.plan)
        assert shape
        failpoint("colab.command:claimed")
        self._command.begin(claim.agent, shape.asked)
        failpoint("colab.command:asked")
        said = self._command.asked(claim.agent)
        if endpoint := self._command.endpoint(claim.agent):
            return self._taken(claim, endpoint)
        if said.code == 0:
            raise Transient("`colab new` says that it is done, and has noted no runtime")
        error = trouble(f"start a runtime for {claim.offer}", said)
        if isinstance(error, Transient):
            if endpoint := self._unheard_of(claim, shape.asked):
                return self._taken(claim, endpoint)
            if self._command.asked_since(claim.agent) < SETTLED_SECONDS:
                raise Lost(f"{error}; lists may not show yet whether it was started all the same")
        self._command.forget(claim.agent)
        if isinstance(error, NoCapacity) and error.busy_for_now:
            self._refused = (time.monotonic(), error)
        raise error

    def _taken(self, claim: Claim, endpoint: str) -> Claim:
        claim = self._records.change(claim.key, folder=endpoint)
        self._command.keep(claim.agent)
        self._command.forget_asking(claim.agent)
        failpoint("colab.command:taken")
        return claim

    def _unheard_of(self, claim: Claim, asked: str) -> str:
        """The runtime that was started for the claim without anybody hearing of it; empty where none can be it."""
        claims = [each for each in self._claims() if each.key != claim.key]
        if any(not each.folder for each in claims):  # it may be that one's
            return ""
        known = {each.folder for each in claims} | set(claim.before)
        for listed in self._command.sessions(fresh=True).values():
            if listed.endpoint in known or listed.hardware != (asked or "CPU"):
                continue
            self._command.remind(claim.agent, listed.endpoint)
            with suppress(BackendError):
                if CommandMachine.is_untouched(self._command, claim.agent):
                    return listed.endpoint
            self._command.forget_notes(claim.agent)
        return ""

    def _greeted(self, claim: Claim) -> Claim:
        """The claim with what its runtime really is; from then on the runtime ends itself in time."""
        if claim.taken:
            return claim
        session = self._hello(claim)
        why = "" if session is not None else "it has no means to end itself when its time is up"
        if session is None or (why := misfit(session, claim.needs, claim.units_per_hour)):
            told = session.described() if session else "a runtime"
            self._give_back(claim)
            raise NoCapacity(f"Colab gave {told} for {claim.offer}: {why}; it was given back")
        kind = kind_of(session.gpu)
        assert kind
        assert kind.units is not None
        claim = self._records.change(
            claim.key, root=f"{session.root}/jobs", gpu_count=session.gpu_count, units_per_hour=kind.units,
            micros_per_hour=kind.micros_per_hour(self._settings.plan), taken=True,
            ends_itself=CommandMachine.end_command(session.root),
        )  # fmt: skip
        failpoint("colab.command:greeted")
        return claim

    def _hello(self, claim: Claim) -> SessionFacts | None:
        """What the runtime has; None for one that cannot end itself."""
        said = self._machine(claim).hello(max(1.0, claim.ends_at - time.time()))
        if said.get("ends_itself") is not True:
            return None
        try:
            return greeted(said, claim.agent, datetime.now(UTC))
        except ValueError as error:
            raise Transient(f"the runtime does not say what it has: {error}") from error

    def _give_back(self, claim: Claim) -> None:
        """As far as that goes at once; its lease is deleted as well."""
        with suppress(BackendError):
            self._command.stop(claim.agent)

    # --- finding ---

    def find(self, key: str) -> Lease | None:
        """The runtime of ``key``; also one that a worker before this one has asked for and not seen. Raises Lost while
        it cannot be told whether there is one.
        """
        claim = self._records.get(key)
        if claim is None:
            return next((lease for lease in self._unclaimed(set()) if lease.key == key), None)
        if claim.ended:
            return None
        if not claim.folder:
            claim = self._found(claim)
        return lease_of(claim) if claim.folder else None

    def _found(self, claim: Claim) -> Claim:
        if not self._command.begun(claim.agent):
            return claim
        with suppress(NoCapacity):
            return self._assigned(claim)
        return claim

    def owned(self) -> Iterator[Lease]:
        """Every runtime of this home. Raises AuthError where the command is gone and something may be left."""
        claims = [claim for claim in self._claims() if claim.folder or self._command.begun(claim.agent)]
        if claims and not self.found:
            raise AuthError(f"what this home has started on Colab cannot be looked at: {INSTALL}")
        for claim in claims:
            if lease := self.find(claim.key):
                yield lease
        yield from self._unclaimed({claim.agent for claim in claims})

    def _unclaimed(self, claimed: set[str]) -> Iterator[Lease]:
        """Runtimes of which the command has notes here and nobody has a claim."""
        names = [name for name in self._command.names() if name not in claimed]
        listed = self._command.sessions(fresh=True) if names else {}
        for name in names:
            if (endpoint := self._command.endpoint(name)) in listed:
                yield Lease(name.removeprefix("gpujob-"), NAME, endpoint, datetime.now(UTC))

    def _claims(self) -> Iterator[Claim]:
        return (claim for claim in self._records.all() if claim.road == ROAD and not claim.ended)

    # --- ending ---

    def delete(self, lease: Lease) -> None:
        """Stop the runtime. Raises NotYetGone while Google may still have it."""
        claim, name = self._records.get(lease.key), f"gpujob-{lease.key}"
        if claim and claim.ended:
            return
        self._command.remind(name, lease.id)
        try:
            stopped = self._command.stop(name)
        except AuthError:
            raise
        except BackendError:  # it was stopped before, perhaps: the list tells
            stopped = False
        failpoint("colab.command:stopped")
        if lease.id in self._command.sessions(fresh=True) or not (stopped or self._is_missing(lease.id)):
            raise NotYetGone(f"Google still has runtime {lease.id}, or has not said for long enough that it is gone")
        self._command.forget(name)
        self._talks.pop(lease.key, None)
        if claim:
            hours = max(0.0, time.time() - claim.began) / 3600
            self._records.note_used(claim.offer, hours * 3600, hours * claim.units_per_hour, time.time())
            self._records.change(lease.key, ended=time.time())

    def fate(self, lease: Lease) -> Fate:
        """What became of the runtime."""
        return Fate.GONE if self._is_missing(lease.id) else Fate.ALIVE

    def _is_missing(self, endpoint: str) -> bool:
        """Whether no list has shown it for some time."""
        if endpoint in self._command.sessions():
            self._missing_since.pop(endpoint, None)
            return False
        since = self._missing_since.setdefault(endpoint, time.monotonic())
        return time.monotonic() - since >= SETTLED_SECONDS

    def held_seconds(self, lease: Lease) -> float | None:
        """By this computer's clock, from asking to the end."""
        claim = self._records.get(lease.key)
        return max(0.0, (claim.ended or time.time()) - claim.began) if claim else None

    # --- reaching ---

    def connect(self, lease: Lease) -> Machine:
        """Reach the runtime. Raises Gone where it is over, NoCapacity where it is not what was planned with."""
        claim = self._records.get(lease.key)
        if claim is None or claim.ended:
            raise Gone(f"nobody knows of a runtime for {lease.key}", Fate.GONE)
        self._lost(claim)
        return self._machine(self._greeted(claim))

    def _lost(self, claim: Claim) -> None:
        """Raise Gone where the runtime is over; else the command is reminded of it."""
        if self._is_missing(claim.folder):
            held = format_duration(max(0.0, time.time() - claim.began))
            raise Gone(
                f"Colab's runtime {claim.folder} is gone after {held}: Google, or its own guard, ended it", Fate.GONE
            )
        self._command.remind(claim.agent, claim.folder)

    def _machine(self, claim: Claim) -> CommandMachine:
        with self._lock:
            talk = self._talks.setdefault(claim.key, Talk())
        incoming = self._root / "incoming" / claim.key
        return CommandMachine(self._command, claim.agent, talk, incoming, lambda: self._lost(claim))
