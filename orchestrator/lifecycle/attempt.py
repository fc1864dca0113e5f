"""One attempt: provision, upload, execute, fetch, teardown, then its outcome and cost.

Every step may be entered again after a crash. The lease is found by the attempt's key, never by what a variable held;
the machine is given back and paid for whatever happened before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from backends.base import (
    Lease,
    LeaseRequest,
    Machine,
    NoCapacity,
    NotYetReady,
    Offer,
    RunPhase,
    RunStatus,
)
from backends.failpoints import failpoint
from backends.runner.runner import PREFLIGHT_REFUSES
from orchestrator.clock import Clock, stamp
from orchestrator.home import Home
from orchestrator.lifecycle.fetching import fetch_all
from orchestrator.lifecycle.following import copy_logs, write_live
from orchestrator.lifecycle.jobfile import WIND_DOWN_SECONDS
from orchestrator.lifecycle.journal import Cancelled, Journal, Json, Patience, StepFailed
from orchestrator.lifecycle.logs import log_tail
from orchestrator.lifecycle.outcome import ExitFacts, Outcome, Verdict, classify
from orchestrator.lifecycle.planning import recorded_facts
from orchestrator.lifecycle.registry import Backends
from orchestrator.lifecycle.settling import settlement
from orchestrator.lifecycle.uploading import upload_all
from orchestrator.lifecycle.vault import Vault
from orchestrator.records.attempts import lease_is_gone, lease_is_live, recorded_lease, settle
from orchestrator.records.jobs import get_job, note
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Job
from orchestrator.redaction import Redactor
from orchestrator.spec.model import JobSpec, ResolvedVariant

START_DEADLINE_SECONDS = 900.0
"""A machine that is not reachable by then is given back and counted as unreachable."""

SHORTEST_WAIT, LONGEST_WAIT = 0.2, 2.0
"""Seconds between two tries for a place that is only busy; many may wait, so the pause grows from one to the other."""

SHORTEST_POLL, LONGEST_POLL = 0.02, 0.5
"""Seconds between two looks at a run; the wait grows from one to the other."""


class Held(Exception):
    """Results lie on a machine whose waiting costs nothing and cannot be fetched now; they wait for `resume`."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker has at hand: one set for all its jobs."""

    store: Store
    home: Home
    clock: Clock
    backends: Backends
    vault: Vault


class AttemptRun:
    """Carries one open attempt to its settlement. Made anew after a crash; everything it knows is in the journal."""

    def __init__(self, tools: Tools, job: Job, spec: JobSpec, attempt: Attempt, offer: Offer | None) -> None:
        self._tools = tools
        self._job = job
        self._spec = spec
        self._attempt = attempt
        self._offer = offer
        self._secrets = tools.vault.values(job.id, spec.secrets)
        self._redact = Redactor(self._secrets.values())
        self._journal = Journal(tools.store, tools.clock, self._redact)
        self._backend = tools.backends.get(attempt.backend)
        self._variant: ResolvedVariant = spec.resolved(attempt.variant)

    def run(self) -> Outcome:
        """Go through the steps from wherever they stand; settle; say how it ended. Raises Held."""
        verdict = self._verdict_of_steps()
        ended = self._step("teardown", self._teardown, Patience(tries=10_000))
        self._tidy_up()
        failpoint("tidied")
        self._settle(verdict, float(ended.get("held_seconds", 0.0)))
        failpoint("settled")
        return verdict.outcome

    def _verdict_of_steps(self) -> Verdict:
        try:
            self._step("provision", self._provision)
            self._step("upload", self._upload)
            execution = self._step("execute", self._execute)
        except StepFailed as failure:
            return verdict_of_failure(failure)
        missing = self._fetch_or_hold()
        verdict = self._classified(execution)
        if missing and verdict.outcome is Outcome.SUCCEEDED:
            self._note("results", f"the run left nothing at {', '.join(missing)}")
        return verdict

    def _step(self, name: str, effect: Callable[[], Json], patience: Patience | None = None) -> Json:
        return self._journal.step(cast("int", self._attempt.id), name, effect, patience or Patience())

    # provision

    def _provision(self) -> Json:
        lease = self._backend.find(self._attempt.key) or self._create()
        failpoint("provision:created")
        lease_is_live(self._tools.store, lease)
        self._connect(lease)
        return {"lease": lease.id}

    def _create(self) -> Lease:
        """Obtain the machine; where it is only busy and free of charge, wait for it."""
        if self._offer is None:
            raise NoCapacity(f"{self._attempt.backend} no longer offers {self._attempt.offer}")
        request = LeaseRequest(
            self._attempt.key, self._offer, self._variant.need.ram_bytes, self._attempt.allowed_seconds
        )
        pause = 0.0
        while True:
            try:
                return self._backend.create(request)
            except NoCapacity as busy:
                if not busy.busy_for_now:
                    raise
                if pause == 0.0:
                    self._note("waiting", f"waiting for {self._attempt.backend}: {busy}")
            self._stop_if_cancelled()
            pause = min(LONGEST_WAIT, max(SHORTEST_WAIT, pause * 1.2))
            self._tools.clock.sleep(pause)

    def _connect(self, lease: Lease) -> Machine:
        began = self._tools.clock.monotonic()
        while True:
            try:
                return self._backend.connect(lease)
            except NotYetReady:
                self._stop_if_cancelled()
                if self._tools.clock.monotonic() - began > START_DEADLINE_SECONDS:
                    raise
            self._tools.clock.sleep(2.0)

    def _lease(self) -> Lease:
        lease = recorded_lease(self._tools.store, self._attempt.key)
        if lease is None:
            raise AssertionError("provision is done, so the lease is recorded")
        return lease

    # upload

    def _upload(self) -> Json:
        self._stop_if_cancelled()
        sent = upload_all(
            self._tools.home, self._tools.store, self._job, self._spec, self._variant, self._attempt, self._lease(),
            self._backend.connect(self._lease()),
        )  # fmt: skip
        return {"bytes": sent}

    # execute

    def _execute(self) -> Json:
        machine = self._backend.connect(self._lease())
        key = self._attempt.key
        if machine.status(key).phase is RunPhase.ABSENT:
            self._stop_if_cancelled()  # a run that an earlier worker began is asked to end instead
        machine.start(key, self._secrets)
        failpoint("execute:started")
        pause = SHORTEST_POLL
        while True:
            status = machine.status(key)
            self._watch(machine, status)
            if status.over:
                return {"phase": status.phase.value, "record": dict(status.record)}
            if status.phase is RunPhase.ABSENT:  # it was started above: somebody has removed its directory since
                return {"phase": RunPhase.LOST.value, "record": {}}
            self._end_if_asked(machine)
            self._tools.clock.sleep(pause)
            pause = min(LONGEST_POLL, pause * 1.5)

    def _watch(self, machine: Machine, status: RunStatus) -> None:
        folder = self._tools.home.attempt(self._job.id, self._attempt.number)
        with suppress(OSError):  # no room to look on here must not end the run; its logs are fetched at its end
            copy_logs(machine, self._attempt.key, folder)
            write_live(self._tools.home.live(self._job.id), self._attempt, status)
        failpoint("execute:watched")

    def _end_if_asked(self, machine: Machine) -> None:
        if get_job(self._tools.store, self._job.id).cancel_requested:
            machine.signal(self._attempt.key, "cancelled")
        elif self._held_seconds(self._lease()) > self._attempt.allowed_seconds:
            machine.signal(self._attempt.key, "budget" if self._attempt.micros_per_hour else "deadline")

    # fetch

    def _fetch_or_hold(self) -> list[str]:
        """Fetch; the declared results that were not there.

        Where that fails for good, results wait on a machine that costs nothing; a paid one is asked again until the
        reservation is used up.
        """
        while True:
            try:
                fetched = self._step("fetch", self._fetch)
            except StepFailed as failure:
                lease = self._lease()
                if self._attempt.micros_per_hour == 0 or self._on_own_machine(lease):
                    raise Held(f"the results could not be fetched: {failure}") from failure
                if self._held_seconds(lease) >= self._attempt.allowed_seconds - WIND_DOWN_SECONDS / 2:
                    self._note("fetch", f"the results could not be fetched before the machine had to go: {failure}")
                    return []
                self._journal.reopen(cast("int", self._attempt.id))
            else:
                return list(fetched["missing"])

    def _fetch(self) -> Json:
        machine = self._backend.connect(self._lease())
        return fetch_all(machine, self._attempt.key, self._spec, self._tools.home, self._job.id, self._attempt.number)

    # outcome

    def _classified(self, execution: Json) -> Verdict:
        folder = self._tools.home.attempt(self._job.id, self._attempt.number)
        record = execution["record"]
        reason = record.get("stop_reason") if record.get("stopped_by") == "request" else None
        failed = record.get("failed_phase")
        beside = failed if failed in ("setup", "preflight") else None
        self._note_preflight(record, folder)
        facts = ExitFacts.from_record(
            record,
            phase=RunPhase(execution["phase"]),
            stdout_tail="" if beside else self._tail(folder / "stdout.log"),
            stderr_tail=self._tail(folder / f"{beside or 'stderr'}.log"),
            cancelled=reason == "cancelled",
            budget_stop=reason == "budget",
            unexplained_sigkill=self._spec.on_oom.unexplained_sigkill,
        )
        return classify(facts)

    def _note_preflight(self, record: Mapping[str, Any], folder: Path) -> None:
        """What a preflight that let the run begin had to say: what it found, or why it found nothing."""
        code = record.get("preflight_exit_code")
        if code is None or code == PREFLIGHT_REFUSES:
            return
        lines = self._tail(folder / "preflight.log").strip().splitlines()
        said = lines[-1] if lines else "it said nothing"
        ended = "" if code == 0 else f" (ended with {code}; the run began all the same)"
        self._note("preflight", f"preflight of attempt {self._attempt.number}: {said}{ended}")

    def _tail(self, path: Path) -> str:
        return self._redact(log_tail(path).decode("utf-8", errors="replace"))

    # teardown and settlement

    def _teardown(self) -> Json:
        store, key = self._tools.store, self._attempt.key
        lease = self._backend.find(key) or recorded_lease(store, key)
        held = 0.0
        if lease is not None:
            lease_is_live(store, lease)
            self._backend.delete(lease)
            failpoint("teardown:deleted")
            held = self._billed_seconds(lease)
        lease_is_gone(store, key, self._now())
        return {"held_seconds": held}

    def _billed_seconds(self, lease: Lease) -> float:
        """What the lease took. This machine costs only while the runner may run: not while files wait on it."""
        held = self._held_seconds(lease)
        return min(held, self._attempt.allowed_seconds) if self._on_own_machine(lease) else held

    def _on_own_machine(self, lease: Lease) -> bool:
        return bool(lease.details.get("own_machine"))

    def _held_seconds(self, lease: Lease) -> float:
        """By the backend's own clock where it has one; else wall time, which the reservation bounds."""
        metered = self._backend.metered
        measured = metered.held_seconds(lease) if metered else None
        if measured is not None:
            return measured
        wall = (self._tools.clock.now() - lease.created_at).total_seconds()
        return min(max(wall, 0.0), self._attempt.allowed_seconds)

    def _tidy_up(self) -> None:
        """Drop what only the steps needed. Before the attempt is settled, since nobody looks at it after that."""
        lease = recorded_lease(self._tools.store, self._attempt.key)
        if lease and (metered := self._backend.metered):
            metered.settled(lease)
        shutil.rmtree(self._tools.home.attempt(self._job.id, self._attempt.number) / "outgoing", ignore_errors=True)

    def _settle(self, verdict: Verdict, held_seconds: float) -> None:
        ending = settlement(
            self._tools.store, self._job, self._spec, self._attempt, verdict, held_seconds, self._now(),
            predicted=recorded_facts(self._job).needs.get(self._attempt.variant),
        )  # fmt: skip
        settle(self._tools.store, self._attempt, ending, self._now())

    def _stop_if_cancelled(self) -> None:
        if get_job(self._tools.store, self._job.id).cancel_requested:
            raise Cancelled("cancelled before the run began")

    def _note(self, kind: str, text: str) -> None:
        note(self._tools.store, self._job.id, self._now(), kind, self._redact(text))

    def _now(self) -> str:
        return stamp(self._tools.clock.now())


_OUTCOME_OF_FAILURE = {
    "NoCapacity": Outcome.NO_CAPACITY,
    "NotYetReady": Outcome.UNREACHABLE,
    "Transient": Outcome.UNREACHABLE,
    "Lost": Outcome.LOST,
}


def verdict_of_failure(failure: StepFailed) -> Verdict:
    """The outcome of an attempt whose step failed before the runner could leave an exit record."""
    if failure.kind == Cancelled.__name__:
        return Verdict(Outcome.CANCELLED, str(failure), ())
    outcome = _OUTCOME_OF_FAILURE.get(failure.kind, Outcome.FAILED)
    if os.strerror(28) in str(failure):
        outcome = Outcome.DISK_FULL
    evidence = (f"{failure.step}: {failure}", *([failure.advice] if failure.advice else []))
    return Verdict(outcome, f"{failure.step} failed: {failure}", evidence)
