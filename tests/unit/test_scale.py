"""Looking stays quick however long the past is: every query reaches its rows by an index. No clock is read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.records.reading import Reader, Row
from orchestrator.records.store import Store
from orchestrator.reports.cost import By, cost_report
from orchestrator.reports.jobs import job_detail, job_list

JOB, ATTEMPT, STEP = "noop-abcde", 1, 1
AT = "2026-11-01T00:00:00.000000Z"

TABLES = frozenset({"job", "attempt", "charge"})


class Remembering(Reader):
    """A Reader that remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[tuple[str, Sequence[Any]]] = []

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        self.asked.append((query, values))
        return super().rows(query, values)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """One job, so that every query of a command is reached."""
    path = tmp_path / "journal.sqlite"
    Store(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        insert(connection, "job", id=JOB, name="noop", state="succeeded", summary="", budget_micros=0, priority="cost",
               spec="{}", options="{}", cancel_requested=0, created_at=AT)  # fmt: skip
        insert(connection, "attempt", id=ATTEMPT, job_id=JOB, number=1, key="k", rank=1, backend="local", offer="cpu",
               variant="default", state="ended", outcome="succeeded", summary="", evidence="[]", micros_per_hour=0,
               allowed_seconds=1, reserved_micros=0, cost_micros=0, started_at=AT)  # fmt: skip
        insert(connection, "step", id=STEP, attempt_id=ATTEMPT, name="provision", position=0, state="done")
    return path


def insert(connection: sqlite3.Connection, table: str, **values: Any) -> None:
    names = ", ".join(values)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values()))


def plans(journal: Path, look: Callable[[Reader], object]) -> list[str]:
    """How SQLite goes about every query that ``look`` makes."""
    reader = Remembering(journal)
    look(reader)
    reader.close()
    with closing(sqlite3.connect(journal)) as connection:
        return [
            row[3]
            for query, values in reader.asked
            for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)
        ]


@pytest.mark.parametrize(
    "look",
    [
        lambda reader: job_detail(reader, JOB),
        lambda reader: reader.job_id("noop"),
        lambda reader: reader.tries(STEP),
        lambda reader: reader.events(JOB, 7),
        lambda reader: reader.unfinished(),
    ],
    ids=["show", "prefix", "tries", "events", "unfinished"],
)
def test_one_job_is_found_without_reading_others(journal: Path, look: Callable[[Reader], object]) -> None:
    steps = plans(journal, look)
    assert [step for step in steps if step.startswith("SEARCH")]
    assert not [step for step in steps if step.startswith("SCAN")]


def test_the_newest_jobs_are_taken_from_the_end_of_an_index(journal: Path) -> None:
    """``ls`` walks the index by age, which its LIMIT ends; nothing is sorted, and attempts are searched."""
    steps = plans(journal, lambda reader: job_list(reader, 20))
    assert "SCAN job USING INDEX job_by_age" in steps
    assert [step for step in steps if step.startswith("SCAN")] == ["SCAN job USING INDEX job_by_age"]
    assert not [step for step in steps if "TEMP B-TREE" in step]


@pytest.mark.parametrize("by", By)
def test_a_report_reads_the_charges_once(journal: Path, by: By) -> None:
    """Everything ever charged is summed, so all charges are read, once; what they belong to is searched."""
    steps = plans(journal, lambda reader: cost_report(reader, by))
    assert [step for step in steps if step.startswith("SCAN") and step.split()[1] in TABLES] == ["SCAN charge"]
    assert [step for step in steps if step.startswith("SEARCH attempt")]
