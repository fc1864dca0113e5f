"""The durable engine: named steps over the journal, each repaired by running it again.

A step is three moments, and a crash between any two of them loses nothing:

1. the intent: a row for this try, committed;
2. the effect, which is idempotent under the attempt's key;
3. the result, one fenced UPDATE (the step must still be ``running``), committed.

A step that is done gives its stored result without running; one that failed for good raises its stored failure; one
whose try was left ``running`` belonged to a worker that died, and is taken up with a new try.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, func, select

from backends.base import BackendError, Lost, NotYetGone, NotYetReady, Transient
from backends.failpoints import failpoint
from orchestrator.clock import Clock, stamp
from orchestrator.lifecycle.endings import Ended, StepFailed
from orchestrator.records.errors import StaleRecord
from orchestrator.records.states import StepState, TryState
from orchestrator.records.store import Store
from orchestrator.records.tables import Step, StepTry
from orchestrator.redaction import Redactor

Json = dict[str, Any]
Effect = Callable[[], Json]

STEPS = ("provision", "upload", "execute", "fetch", "teardown")
"""The steps of an attempt, in order."""

GAVE_UP = "gave up"
"""The action of a step's last failed try; the user's `resume` gives the step its full patience again."""


StepError = BackendError | OSError | Ended
"""What an effect may raise; anything else is a fault of ours."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a step is tried, and the wait in seconds before the next try (doubling).

    Errors that are ``uncounted`` never end the step: the effect itself says when it is too late.
    """

    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    uncounted: tuple[type[Exception], ...] = ()

    def wait_after(self, number: int, error: StepError) -> float | None:
        """Seconds to wait after try ``number`` (from 1) failed with ``error``; None when that was the last."""
        if not isinstance(error, self.uncounted) and (number >= self.tries or not _worth_retrying(error)):
            return None
        wait = float(min(self.longest_wait, self.first_wait * 2 ** min(number - 1, 20)))
        asked = error.retry_after if isinstance(error, Transient) else None
        return max(wait, asked or 0.0)


@dataclass(frozen=True, slots=True)
class _Try:
    id: int
    step_id: int
    number: int
    since_resume: int
    began: float


class Journal:
    """Runs steps and remembers every try of every one."""

    def __init__(self, store: Store, clock: Clock, redact: Redactor) -> None:
        self._store = store
        self._clock = clock
        self._redact = redact

    def step(self, attempt_id: int, name: str, effect: Effect, patience: Patience) -> Json:
        """The result of ``name``, running ``effect`` only if no earlier try has finished it. Raises StepFailed."""
        while True:
            begun = self._begin(attempt_id, name)
            if not isinstance(begun, _Try):
                return begun
            failpoint(f"{name}:intent")
            try:
                result = effect()
            except (BackendError, OSError, Ended) as error:
                self._after_failure(begun, name, error, patience)
                continue
            failpoint(f"{name}:effect")
            self._finish(begun, result)
            failpoint(f"{name}:recorded")
            return result

    def reopen(self, attempt_id: int) -> list[str]:
        """Let steps that failed for good be tried again, as the user asked; their names."""
        with self._store.write() as session:
            steps = session.exec(
                select(Step).where(col(Step.attempt_id) == attempt_id, col(Step.state) == StepState.FAILED)
            ).all()
            for step in steps:
                step.state = StepState.RUNNING
                step.result = None
        return [step.name for step in steps]

    def _begin(self, attempt_id: int, name: str) -> _Try | Json:
        with self._store.write() as session:
            step = session.exec(select(Step).where(Step.attempt_id == attempt_id, Step.name == name)).one_or_none()
            if step is None:
                step = Step(attempt_id=attempt_id, name=name, position=STEPS.index(name))
                session.add(step)
                session.flush()
            if step.state == StepState.DONE:
                return cast("Json", json.loads(step.result or "{}"))
            if step.state == StepState.FAILED:
                raise StepFailed(name, **json.loads(step.result or "{}"))
            return self._new_try(session, step)

    def _new_try(self, session: Session, step: Step) -> _Try:
        step_id = cast("int", step.id)
        left_running = update(StepTry).where(col(StepTry.step_id) == step_id, col(StepTry.state) == TryState.RUNNING)
        session.exec(
            left_running.values(
                state=TryState.INTERRUPTED,
                error="the worker died during this try",
                action="taken up again by the next worker",
            )
        )
        made = session.exec(select(func.count()).where(col(StepTry.step_id) == step_id)).one()
        gave_up = session.exec(
            select(func.max(StepTry.number)).where(col(StepTry.step_id) == step_id, col(StepTry.action) == GAVE_UP)
        ).one()
        failed = session.exec(
            select(func.count()).where(
                col(StepTry.step_id) == step_id,
                col(StepTry.state) == TryState.FAILED,
                col(StepTry.number) > (gave_up or 0),
            )
        ).one()
        row = StepTry(step_id=step_id, number=made + 1, started_at=stamp(self._clock.now()))
        session.add(row)
        session.flush()
        return _Try(cast("int", row.id), step_id, made + 1, failed + 1, self._clock.monotonic())

    def _finish(self, begun: _Try, result: Json) -> None:
        with self._store.write() as session:
            self._close_step(session, begun, StepState.DONE, result)
            self._close_try(session, begun, state=TryState.DONE)

    def _after_failure(self, begun: _Try, name: str, error: StepError, patience: Patience) -> None:
        """Record the failed try; return to try again, or raise StepFailed."""
        wait = patience.wait_after(begun.since_resume, error)
        message = self._redact(str(error) or type(error).__name__)
        advice = self._redact(getattr(error, "advice", ""))
        failure = StepFailed(name, type(error).__name__, message, advice)
        action = f"tried again after {wait:g} s" if wait is not None else GAVE_UP
        with self._store.write() as session:
            self._close_try(session, begun, state=TryState.FAILED, error=message, action=action)
            if wait is None:
                self._close_step(session, begun, StepState.FAILED, _stored(failure))
        failpoint(f"{name}:failure")
        if wait is None:
            raise failure from error
        self._clock.sleep(wait)

    def _close_step(self, session: Session, begun: _Try, state: StepState, result: Mapping[str, Any]) -> None:
        fenced = (
            update(Step)
            .where(col(Step.id) == begun.step_id, col(Step.state) == StepState.RUNNING)
            .values(state=state, result=json.dumps(result))
        )
        if cast("CursorResult[Any]", session.exec(fenced)).rowcount != 1:
            raise StaleRecord(f"step {begun.step_id} was finished by another worker")

    def _close_try(self, session: Session, begun: _Try, **values: Any) -> None:
        seconds = round(self._clock.monotonic() - begun.began, 6)
        fenced = (
            update(StepTry)
            .where(col(StepTry.id) == begun.id, col(StepTry.state) == TryState.RUNNING)
            .values(seconds=seconds, **values)
        )
        if cast("CursorResult[Any]", session.exec(fenced)).rowcount != 1:
            raise StaleRecord(f"try {begun.id} was taken over by another worker")


def _worth_retrying(error: StepError) -> bool:
    return isinstance(error, (Transient, NotYetReady, Lost, NotYetGone, OSError))


def _stored(failure: StepFailed) -> Json:
    return {"kind": failure.kind, "message": str(failure), "advice": failure.advice}
