"""A job from its submission to its end: plan, try, learn, plan again.

The loop holds nothing in memory that matters. Each turn reads the journal, does the one thing that follows from it,
and records it; a crash anywhere is repaired by entering the loop again.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from backends.base import BackendError, Offer
from backends.failpoints import failpoint
from backends.units import format_usd
from orchestrator.clock import stamp
from orchestrator.config import Config
from orchestrator.lifecycle.attempt import AttemptRun, Held
from orchestrator.lifecycle.avoiding import offers_to_avoid, recently_unreachable
from orchestrator.lifecycle.learning import calibrated, learned, reliability
from orchestrator.lifecycle.outcome import Outcome
from orchestrator.lifecycle.planning import gather_offers, knowledge_for, recorded_facts, weights_for
from orchestrator.lifecycle.tools import Tools
from orchestrator.lifecycle.vault import MissingSecret
from orchestrator.planning.ladder import make_plan
from orchestrator.planning.outlook import Facts
from orchestrator.planning.plan import Plan, Priority, Rung
from orchestrator.records.attempts import OverBudget, open_attempt, spent_micros
from orchestrator.records.jobs import (
    attempts_of,
    finish_job,
    get_job,
    open_attempt_of,
    save_plan,
    start_job,
)
from orchestrator.records.reading import Reader
from orchestrator.records.states import JobState
from orchestrator.records.tables import Attempt, Job
from orchestrator.spec.model import JobSpec


def run_job(tools: Tools, job_id: str) -> JobState:
    """Carry the job to its end. Safe to call again at any time; the caller holds the job's lock."""
    start_job(tools.store, job_id, stamp(tools.clock.now()))
    job = get_job(tools.store, job_id)
    return _JobRun(tools, job).to_the_end()


class _JobRun:
    def __init__(self, tools: Tools, job: Job) -> None:
        self._tools = tools
        self._job = job
        self._spec = JobSpec.from_json(json.loads(job.spec))
        self._options = json.loads(job.options)

    def to_the_end(self) -> JobState:
        try:
            while True:
                if attempt := open_attempt_of(self._tools.store, self._job.id):
                    self._run_attempt(attempt)
                if end := self._end_after(attempts_of(self._tools.store, self._job.id)):
                    return self._finish(*end)
                if end := self._next_attempt():
                    return self._finish(*end)
        except Held as held:
            summary = f"{held}; they are kept on this machine until `gpujob resume {self._job.id}` succeeds"
            return self._finish(JobState.FAILED, "fetch", summary, forget_secrets=False)
        except (BackendError, MissingSecret) as error:
            return self._finish(JobState.FAILED, Outcome.FAILED.value, str(error), forget_secrets=False)

    def _run_attempt(self, attempt: Attempt) -> None:
        AttemptRun(self._tools, self._job, self._spec, attempt, self._offer_of(attempt)).run()

    @cached_property
    def _upload_bytes(self) -> int:
        files = (path.lstat() for path in self._tools.home.source(self._job.id).rglob("*"))
        return sum(found.st_size for found in files if stat.S_ISREG(found.st_mode))

    def _offer_of(self, attempt: Attempt) -> Offer | None:
        """The attempt's offer, needed only if nothing was rented yet; a catalogue that fails must not stop the rest."""
        try:
            listing = gather_offers(self._tools.backends, [attempt.backend], self._spec, self._upload_bytes)
        except BackendError:
            return None
        return next((offer for offer in listing.offers if offer.name == attempt.offer), None)

    def _end_after(self, attempts: Sequence[Attempt]) -> tuple[JobState, str, str] | None:
        """How the job ends if its last attempt decides it; None to go on."""
        if get_job(self._tools.store, self._job.id).cancel_requested:
            return JobState.CANCELLED, Outcome.CANCELLED.value, "cancelled"
        recent = attempts[self._options.get("attempts_before", 0) :]
        if not recent:
            return None
        last = recent[-1]
        outcome = Outcome(last.outcome or Outcome.FAILED)
        if outcome is Outcome.SUCCEEDED:
            return JobState.SUCCEEDED, outcome.value, self._success(attempts)
        if outcome is Outcome.CANCELLED:
            return JobState.CANCELLED, outcome.value, "cancelled"
        if not outcome.walks_ladder(self._spec.on_oom.unexplained_sigkill):
            return JobState.FAILED, outcome.value, last.summary
        return None

    def _success(self, attempts: Sequence[Attempt]) -> str:
        cost = sum(attempt.cost_micros for attempt in attempts)
        tries = f"{len(attempts)} attempts" if len(attempts) > 1 else "the first attempt"
        return f"succeeded with {attempts[-1].variant} in {tries} for {format_usd(cost)}"

    def _next_attempt(self) -> tuple[JobState, str, str] | None:
        """Plan with what is known now and reserve the first rung; or how the job ends for want of one."""
        attempts = attempts_of(self._tools.store, self._job.id)
        plan = self._plan(attempts)
        save_plan(self._tools.store, self._job.id, plan.to_json())
        if not plan.ladder:
            last = attempts[-1] if attempts else None
            why = f"after {last.summary}, nothing feasible is left" if last else "nothing feasible"
            said = " ".join([f"{why}.", plan.advice, *plan.notes])
            return JobState.FAILED, (last.outcome if last else None) or "no_plan", said
        failpoint("planned")
        try:
            self._reserve(plan.ladder[0], attempts)
        except OverBudget as error:
            return JobState.FAILED, Outcome.BUDGET.value, str(error)
        failpoint("reserved")
        return None

    def _plan(self, attempts: Sequence[Attempt]) -> Plan:
        options, config, reader = self._options, Config(self._tools.home.config), self._reader()
        seen = recently_unreachable(reader, self._tools.setting("attempt.avoid"), self._tools.clock.now())
        made = len(attempts) - options.get("attempts_before", 0)
        listing = gather_offers(self._tools.backends, options["backends"], self._spec, self._upload_bytes)
        plan = make_plan(
            self._spec,
            listing.offers,
            knowledge_for(reader, self._spec, options["digest"], attempts, offers_to_avoid(seen)),
            self._job.budget_micros - spent_micros(self._tools.store, self._job.id),
            Priority(self._job.priority),
            backends=options["backends"],
            attempts_left=self._spec.limits.attempts - made,
            first_rank=len(attempts) + 1,
            facts=self._facts(),
            weights=weights_for(config, Priority(self._job.priority)),
        )
        return replace(plan, notes=listing.left_out)

    def _reader(self) -> Reader:
        return Reader(self._tools.home.journal)

    def _facts(self) -> Facts:
        """What was predicted at submission, as all runs on record correct it by now."""
        facts, digest = recorded_facts(self._job), self._options["digest"]
        taught = learned(self._reader(), facts.needs)
        needs = calibrated(taught, self._spec.name, digest, facts.needs)
        return replace(facts, needs=needs, reliability=reliability(self._reader()))

    def _reserve(self, rung: Rung, attempts: Sequence[Attempt]) -> None:
        number = len(attempts) + 1
        attempt = Attempt(
            job_id=self._job.id,
            number=number,
            key=f"{self._job.id}-a{number}",
            rank=rung.rank,
            backend=rung.backend,
            offer=rung.offer,
            gpu=rung.gpu,
            variant=rung.variant,
            ram_cap_bytes=rung.ram_cap_bytes,
            micros_per_hour=rung.micros_per_hour,
            allowed_seconds=rung.allowed_seconds,
            reserved_micros=rung.worst_case_micros,
            price=json.dumps(rung.price.to_json()),
            started_at=stamp(self._tools.clock.now()),
        )
        why = "; ".join(rung.reasons)
        text = f"attempt {number}: {rung.variant} on {rung.backend} {rung.offer} ({why})"
        open_attempt(self._tools.store, attempt, text, {"attempt": number, "why": why, "predicted": rung.to_json()})

    def _finish(self, state: JobState, outcome: str, summary: str, *, forget_secrets: bool = True) -> JobState:
        """Tidy up, then record the end: a finished job is never looked at again."""
        if forget_secrets:
            self._tools.vault.forget(self._job.id)
        self._tools.home.live(self._job.id).unlink(missing_ok=True)
        failpoint("finishing")
        finish_job(self._tools.store, self._job.id, state, outcome, summary, stamp(self._tools.clock.now()))
        failpoint("finished")
        return state
