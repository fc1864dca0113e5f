"""What the journal refuses: unknown states by the tables, impossible moves by the fences, money by the budget."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy.exc import IntegrityError

from backends.base import Transient
from orchestrator.clock import SystemClock
from orchestrator.lifecycle.endings import Cancelled, StepFailed
from orchestrator.lifecycle.journal import Journal, Patience
from orchestrator.records.attempts import Ending, OverBudget, open_attempt, settle
from orchestrator.records.errors import JournalError, StaleRecord
from orchestrator.records.jobs import add_job, attempts_of, finish_job, get_job, request_cancel, requeue, start_job
from orchestrator.records.states import JOB_MOVES, JobState
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Job
from orchestrator.redaction import Redactor

AT = "2026-01-02T03:04:05.000006Z"
TABLES = ["job", "attempt", "step", "step_try", "lease"]


def new_job(job: str = "j", budget: int = 1000) -> Job:
    return Job(id=job, name="j", budget_micros=budget, priority="cost", spec="{}", options="{}", created_at=AT)


def new_attempt(number: int = 1, reserved: int = 0) -> Attempt:
    return Attempt(
        job_id="j", number=number, key=f"j-a{number}", rank=number, backend="local", offer="cpu", variant="v",
        micros_per_hour=0, allowed_seconds=60.0, reserved_micros=reserved, started_at=AT,
    )  # fmt: skip


def ending(cost: int) -> Ending:
    return Ending("succeeded", "fine", (), 0, None, None, None, 2.0, 1.0, cost // 2, cost - cost // 2, None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "journal.sqlite")
    add_job(store, new_job(), "new")
    yield store
    store.close()


@pytest.fixture
def journal(store: Store) -> Journal:
    return Journal(store, SystemClock(), Redactor(["canary"]))


def sql(store: Store, statement: str) -> list[tuple[object, ...]]:
    with store.write() as session:
        result = session.connection().exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.mark.parametrize("table", TABLES)
def test_a_state_that_does_not_exist_cannot_be_stored(store: Store, journal: Journal, table: str) -> None:
    attempt = open_attempt(store, new_attempt(), "first", {})
    journal.step(attempt, "provision", dict, Patience())
    with pytest.raises((JournalError, IntegrityError), match="CHECK constraint failed: state_known"):
        sql(store, f"UPDATE {table} SET state = 'perhaps'")
    assert ("perhaps",) not in sql(store, f"SELECT state FROM {table}")


@pytest.mark.parametrize("from_", JobState)
@pytest.mark.parametrize("to", JobState)
def test_a_job_moves_only_along_its_life(store: Store, from_: JobState, to: JobState) -> None:
    sql(store, f"UPDATE job SET state = '{from_}'")
    if from_ in JOB_MOVES[to]:
        move(store, to)
        assert get_job(store, "j").state == to
        return
    before = sql(store, "SELECT * FROM job"), sql(store, "SELECT * FROM event")
    with pytest.raises(StaleRecord):
        move(store, to)
    assert before == (sql(store, "SELECT * FROM job"), sql(store, "SELECT * FROM event"))


def move(store: Store, to: JobState) -> None:
    if to is JobState.QUEUED:
        requeue(store, "j", 0, AT)
    elif to is JobState.RUNNING:
        start_job(store, "j", AT)
    else:
        finish_job(store, "j", to, "outcome", "summary", AT)


def test_an_attempt_is_settled_once(store: Store) -> None:
    open_attempt(store, new_attempt(reserved=10), "first", {})
    attempt = attempts_of(store, "j")[0]
    settle(store, attempt, ending(7), AT)
    before = [sql(store, f"SELECT * FROM {table}") for table in ("attempt", "charge", "event")]
    with pytest.raises(StaleRecord):
        settle(store, attempt, ending(9), AT)
    assert before == [sql(store, f"SELECT * FROM {table}") for table in ("attempt", "charge", "event")]


def test_a_step_that_another_worker_finished_is_not_finished_again(store: Store, journal: Journal) -> None:
    attempt = open_attempt(store, new_attempt(), "first", {})

    def overtaken() -> dict[str, object]:
        """While this worker sleeps in mid-step, another one takes the step up and finishes it."""
        journal.step(attempt, "execute", lambda: {"by": "the other"}, Patience())
        return {"by": "the late one"}

    with pytest.raises(StaleRecord):
        journal.step(attempt, "execute", overtaken, Patience())
    assert journal.step(attempt, "execute", pytest.fail, Patience()) == {"by": "the other"}
    assert sql(store, "SELECT number, state FROM step_try ORDER BY number") == [(1, "interrupted"), (2, "done")]


def test_every_try_is_kept_with_its_redacted_error(store: Store, journal: Journal) -> None:
    attempt = open_attempt(store, new_attempt(), "first", {})

    def fails() -> dict[str, object]:
        raise Transient("no route to canary", advice="ask canary")

    for _ in range(2):
        with pytest.raises(StepFailed, match="no route to") as raised:
            journal.step(attempt, "upload", fails, Patience(tries=3, first_wait=0.0))
        assert "canary" not in f"{raised.value} {raised.value.advice}"
    rows = sql(store, "SELECT number, state, error, action FROM step_try ORDER BY number")
    assert [row[:2] for row in rows] == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert [row[3] for row in rows] == ["tried again after 0 s", "tried again after 0 s", "gave up"]
    assert "canary" not in str(rows)


def test_a_cancelled_step_is_given_up_at_once(store: Store, journal: Journal) -> None:
    attempt = open_attempt(store, new_attempt(), "first", {})

    def stops() -> dict[str, object]:
        raise Cancelled("cancelled before the run began")

    with pytest.raises(StepFailed) as raised:
        journal.step(attempt, "upload", stops, Patience())
    assert raised.value.kind == "Cancelled"
    assert sql(store, "SELECT state, error FROM step_try") == [("failed", "cancelled before the run began")]


def test_asking_to_cancel_twice_tells_of_it_once(store: Store) -> None:
    assert request_cancel(store, "j", AT)
    assert request_cancel(store, "j", AT)
    assert len(sql(store, "SELECT * FROM event WHERE kind = 'cancel'")) == 1


class Budget(RuleBasedStateMachine):
    """Whatever is opened and settled in whatever order, what is spent and reserved never exceeds the budget."""

    BUDGET = 1000

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name) / "journal.sqlite")
        add_job(self.store, new_job(budget=self.BUDGET), "new")
        self.open: dict[int, int] = {}
        self.spent = 0
        self.number = 0

    @rule(reserved=st.integers(0, 700))
    def open_one(self, reserved: int) -> None:
        self.number += 1
        fits = self.spent + sum(self.open.values()) + reserved <= self.BUDGET
        attempt = new_attempt(self.number, reserved)
        if fits:
            open_attempt(self.store, attempt, "opened", {})
            self.open[self.number] = reserved
        else:
            with pytest.raises(OverBudget, match="is left"):
                open_attempt(self.store, attempt, "opened", {})

    @precondition(lambda self: self.open)
    @rule(share=st.floats(0, 1), which=st.integers(0, 99))
    def settle_one(self, share: float, which: int) -> None:
        number = sorted(self.open)[which % len(self.open)]
        cost = int(self.open.pop(number) * share)
        attempt = next(a for a in attempts_of(self.store, "j") if a.number == number)
        settle(self.store, attempt, ending(cost), AT)
        self.spent += cost

    @invariant()
    def within_budget(self) -> None:
        attempts = attempts_of(self.store, "j")
        committed = sum(a.reserved_micros if a.state == "open" else a.cost_micros for a in attempts)
        assert committed == self.spent + sum(self.open.values()) <= self.BUDGET
        charged = sql(self.store, "SELECT coalesce(sum(micros), 0) FROM charge")[0][0]
        assert charged == self.spent
        assert len(sql(self.store, "SELECT * FROM lease")) == len(attempts)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestBudget = Budget.TestCase
TestBudget.settings = settings(max_examples=10, stateful_step_count=15, suppress_health_check=list(HealthCheck))
