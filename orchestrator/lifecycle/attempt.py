"""One attempt: provision, upload, execute, fetch, teardown, then its outcome and cost.

Every step may be entered again after a crash. The lease is found by the attempt's key, never by what a variable held;
the machine is given back and paid for whatever happened before.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from backends.base import BackendError, Lease, NotYetGone, Offer, Rejected, RunPhase
from backends.billing import Price
from backends.failpoints import failpoint
from backends.runner.runner import FETCHED, PREFLIGHT_REFUSES
from orchestrator.lifecycle.bills import ask_for_bill
from orchestrator.lifecycle.context import Context
from orchestrator.lifecycle.endings import (
    MachineGone,
    NeverReachable,
    StepFailed,
    TakenBack,
    TimeUp,
    TooDear,
    Unfit,
    verdict_of_failure,
)
from orchestrator.lifecycle.executing import OUT_OF_REACH, Execution
from orchestrator.lifecycle.fetching import fetch_all
from orchestrator.lifecycle.journal import Journal, Json, Patience
from orchestrator.lifecycle.keeping import mend_checkpoints
from orchestrator.lifecycle.logs import log_tail
from orchestrator.lifecycle.outcome import ExitFacts, Outcome, Verdict, classify
from orchestrator.lifecycle.planning import recorded_facts
from orchestrator.lifecycle.provisioning import Provisioning
from orchestrator.lifecycle.settling import settlement
from orchestrator.lifecycle.tenure import price_of_attempt
from orchestrator.lifecycle.tools import Tools
from orchestrator.lifecycle.traffic import Traffic, with_traffic
from orchestrator.lifecycle.uploading import upload_all
from orchestrator.records.attempts import lease_is_gone, lease_is_live, recorded_lease, settle
from orchestrator.records.bills import expect_bill
from orchestrator.records.tables import Attempt, Job
from orchestrator.redaction import Redactor
from orchestrator.spec.model import JobSpec

OBTAINING = Patience(tries=10)
"""While nothing is rented yet, waiting for a provider that does not answer costs nothing."""

REACHING = Patience(longest_wait=30.0, uncounted=OUT_OF_REACH)
"""A rented machine is asked until its time is up: it is paid for, and holds what the run made."""

GIVING_BACK = Patience(uncounted=(*OUT_OF_REACH, NotYetGone, Rejected, OSError))
"""Never given up: it costs money while it is there, and whatever hinders it can be mended."""


_NO_MACHINE = frozenset(kind.__name__ for kind in (TimeUp, TooDear, TakenBack, MachineGone))
"""How a step fails where there is nothing more to fetch from."""


class Held(Exception):
    """Results lie on a machine whose waiting costs nothing and cannot be fetched now; they wait for `resume`."""


class AttemptRun:
    """Carries one open attempt to its settlement. Made anew after a crash; everything it knows is in the journal."""

    def __init__(self, tools: Tools, job: Job, spec: JobSpec, attempt: Attempt, offer: Offer | None) -> None:
        secrets = tools.vault.values(job.id, spec.secrets)
        redact = Redactor(secrets.values())
        backend, variant = tools.backends.get(attempt.backend), spec.resolved(attempt.variant)
        traffic = Traffic(tools.home.attempt(job.id, attempt.number) / "traffic")
        self._context = Context(tools, job, spec, attempt, backend, variant, secrets, redact, traffic)
        self._offer = offer
        self._never_used = False
        self._unfetched = "its machine was gone before its results could be fetched"
        self._journal = Journal(tools.store, tools.clock, redact)

    def run(self) -> Outcome:
        """Go through the steps from wherever they stand; settle; say how it ended. Raises Held."""
        verdict = self._verdict_of_steps()
        ended = self._step("teardown", self._teardown, GIVING_BACK)
        self._tidy_up()
        failpoint("tidied")
        self._settle(verdict, ended)
        failpoint("settled")
        return verdict.outcome

    def _verdict_of_steps(self) -> Verdict:
        try:
            self._step("provision", Provisioning(self._context, self._offer).obtain, OBTAINING)
            patience = Patience() if self._on_own_machine else REACHING
            self._step("upload", self._upload, patience)
            execution = self._step("execute", Execution(self._context).carry, patience)
        except StepFailed as failure:
            self._never_used = failure.kind in (NeverReachable.__name__, Unfit.__name__)
            return verdict_of_failure(failure)
        fetched = self._fetch_or_hold(patience)
        verdict = self._classified(execution)
        if verdict.outcome is not Outcome.SUCCEEDED:
            return verdict
        if fetched is None and self._context.spec.results:
            lost = f"the run succeeded, but {self._unfetched}"
            return Verdict(Outcome.LOST, f"lost: {lost}", (lost, *verdict.evidence))
        if missing := (fetched or {}).get("missing"):
            self._context.note("results", f"the run left nothing at {', '.join(missing)}")
        return verdict

    def _step(self, name: str, effect: Callable[[], Json], patience: Patience) -> Json:
        return self._journal.step(cast("int", self._context.attempt.id), name, effect, patience)

    @property
    def _on_own_machine(self) -> bool:
        return self._context.tenure.own_machine

    def _upload(self) -> Json:
        self._context.stop_if_cancelled()
        return {"bytes": upload_all(self._context, self._context.machine())}

    # fetch

    def _fetch_or_hold(self, patience: Patience) -> Json | None:
        """Fetch; None where the results are lost with their machine.

        Where that fails for good, results wait on a machine that costs nothing; a paid one is asked again until the
        reservation is used up.
        """
        while True:
            try:
                fetched = self._step("fetch", self._fetch, patience)
            except StepFailed as failure:
                if self._on_own_machine:
                    raise Held(f"the results could not be fetched: {failure}") from failure
                over = failure.kind in _NO_MACHINE or self._context.tenure.fetch_is_over
                if over or self._context.cancel_requested:
                    self._context.note("fetch", f"the results could not be fetched before the machine went: {failure}")
                    if failure.kind == TooDear.__name__:
                        self._unfetched = f"not all of its results could be paid for: {failure}"
                    return None
                self._journal.reopen(cast("int", self._context.attempt.id))
                self._context.tools.clock.sleep(patience.longest_wait)
            else:
                self._release()
                return fetched

    def _release(self) -> None:
        """Everything is at home: the machine may end itself, should we die before it is given back. One that cannot be
        told now ends itself later.
        """
        if not self._on_own_machine:
            with suppress(BackendError, OSError):
                self._context.backend.unpatient.connect(self._context.lease).signal(self._context.key, FETCHED)

    def _fetch(self) -> Json:
        """From the machine, or what outlived it."""
        try:
            return fetch_all(self._context, self._context.machine_to_fetch_from())
        except MachineGone:
            left = self._context.backend.remains(self._context.lease)
            if left is None:
                raise
            self._context.note("fetch", "the machine is gone; what it had brought away until then is fetched")
            return fetch_all(self._context, left)

    # outcome

    def _classified(self, execution: Json) -> Verdict:
        folder, record = self._context.folder, execution["record"]
        reason = record.get("stop_reason") if record.get("stopped_by") == "request" else None
        failed = record.get("failed_phase")
        beside = failed if failed in ("setup", "preflight") else None
        self._note_preflight(record, folder)
        seen = {"cancelled": reason == "cancelled", "budget_stop": reason == "budget"} | execution.get("facts", {})
        facts = ExitFacts.from_record(
            record,
            phase=RunPhase(execution["phase"]),
            stdout_tail="" if beside else self._tail(folder / "stdout.log"),
            stderr_tail=self._tail(folder / f"{beside or 'stderr'}.log"),
            unexplained_sigkill=self._context.spec.on_oom.unexplained_sigkill,
            **seen,
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
        self._context.note("preflight", f"preflight of attempt {self._context.attempt.number}: {said}{ended}")

    def _tail(self, path: Path) -> str:
        return self._context.redact(log_tail(path).decode("utf-8", errors="replace"))

    # teardown and settlement

    def _teardown(self) -> Json:
        context, store, key = self._context, self._context.tools.store, self._context.key
        lease = context.backend.find(key) or recorded_lease(store, key)
        held = 0.0
        if lease is not None:
            lease_is_live(store, lease)
            context.backend.delete(lease)
            failpoint("teardown:deleted")
            held = context.tenure_of(lease).billed_seconds
            if context.backend.billed:
                expect_bill(store, key, cast("int", context.attempt.id), context.attempt.backend)
        lease_is_gone(store, key, context.now())
        return {"held_seconds": held, "rented": lease is not None}

    def _tidy_up(self) -> None:
        """Drop what only the steps needed. Before the attempt is settled, since nobody looks at it after that."""
        context = self._context
        lease = recorded_lease(context.tools.store, context.key)
        if lease and (metered := context.backend.metered):
            metered.settled(lease)
        mend_checkpoints(context.tools.home.checkpoints(context.job.id, context.attempt.number))
        for name in ("outgoing", "incoming"):
            shutil.rmtree(context.folder / name, ignore_errors=True)

    def _price(self, lease: Lease | None) -> Price:
        return with_traffic(price_of_attempt(self._context.attempt, lease), self._context.traffic)

    def _settle(self, verdict: Verdict, ended: Json) -> None:
        context = self._context
        lease = recorded_lease(context.tools.store, context.key)
        ending = settlement(
            context.tools.store, context.job, context.spec, context.attempt, verdict, float(ended["held_seconds"]),
            context.now(), recorded_facts(context.job).needs.get(context.attempt.variant),
            self._price(lease) if ended.get("rented", True) else None,
            wasted=self._never_used,
        )  # fmt: skip
        settle(context.tools.store, context.attempt, ending, context.now())
        ask_for_bill(context.tools, context.key)
