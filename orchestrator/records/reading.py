"""The journal's read side: plain SQL on the standard library, so that looking never waits for an ORM to load.

Everything a command shows comes through here; everything that is written goes through the tables.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.records.errors import explain
from orchestrator.records.version import HEAD, read_version

Row = dict[str, Any]

_JSON_COLUMNS = frozenset({"spec", "options", "plan", "evidence", "result", "details", "data"})


class UnknownJob(Exception):
    """No job has that id or prefix, or more than one has; the message lists what is near."""


class UnknownAttempt(UnknownJob):
    """The job has no attempt of that number; the message says which it has."""


class Reader:
    """Looks at a journal without ever changing it. A journal that does not exist yet is an empty one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._explained():
            version = read_version(path)
            if version not in (None, HEAD):
                _upgrade(path)
            self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False) if version else None
        if self._connection is not None:
            self._connection.row_factory = sqlite3.Row
            weakref.finalize(self, self._connection.close)  # also at exit: the last to leave folds the WAL in

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """The answer to ``query``, JSON columns parsed."""
        if self._connection is None:
            return []
        with self._explained():
            return [_parsed(row) for row in self._connection.execute(query, values)]

    def job_id(self, prefix: str) -> str:
        """The only job whose id starts with ``prefix``. Raises UnknownJob."""
        if not prefix:
            raise UnknownJob("Name a job by its id, or by the first letters of it. `gpujob ls` lists them.")
        upper = prefix + "\U0010ffff"
        found = self.rows("SELECT id FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT 6", (prefix, upper))
        exact = [row["id"] for row in found if row["id"] == prefix]
        if exact or len(found) == 1:
            return str(exact[0] if exact else found[0]["id"])
        if not found:
            raise UnknownJob(f"No job starts with {prefix!r}. `gpujob ls` lists them.")
        names = ", ".join(row["id"] for row in found[:5]) + (", ..." if len(found) > 5 else "")
        raise UnknownJob(f"{prefix!r} is not unique: {names}.")

    def job(self, job_id: str) -> Row:
        """One job with everything recorded of it."""
        return self.rows("SELECT * FROM job WHERE id = ?", (job_id,))[0]

    def jobs(self, limit: int) -> list[Row]:
        """The newest jobs, newest first, each with its cost, its last attempt's place, and what it waits for, if it
        does: the last that was told of it, as long as nothing is rented for its open attempt.
        """
        return self.rows(
            """
            SELECT job.id, job.name, job.state, job.outcome, job.summary, job.budget_micros, job.created_at,
                   job.started_at, job.ended_at,
                   (SELECT coalesce(sum(cost_micros), 0) FROM attempt WHERE job_id = job.id) AS spent_micros,
                   (SELECT count(*) FROM attempt WHERE job_id = job.id) AS attempts,
                   (SELECT backend || ' ' || offer FROM attempt WHERE job_id = job.id
                     ORDER BY number DESC LIMIT 1) AS place,
                   (SELECT variant FROM attempt WHERE job_id = job.id ORDER BY number DESC LIMIT 1) AS variant,
                   CASE WHEN EXISTS (
                     SELECT 1 FROM attempt JOIN lease ON lease.attempt_id = attempt.id
                      WHERE attempt.job_id = job.id AND attempt.state = 'open' AND lease.state = 'intended'
                   ) THEN (
                     SELECT CASE kind WHEN 'waiting' THEN text END FROM event
                      WHERE job_id = job.id ORDER BY id DESC LIMIT 1
                   ) END AS waiting
              FROM job ORDER BY created_at DESC, id DESC LIMIT ?
            """,
            (limit,),
        )

    def attempts(self, job_id: str) -> list[Row]:
        """All attempts of a job, oldest first."""
        return self.rows("SELECT * FROM attempt WHERE job_id = ? ORDER BY number", (job_id,))

    def numbers(self, job_id: str, wanted: int | None = None) -> list[int]:
        """The numbers of a job's attempts, oldest first; or only ``wanted``. Raises UnknownAttempt."""
        numbers = [row["number"] for row in self.attempts(job_id)]
        if wanted is None:
            return numbers
        if wanted not in numbers:
            has = ", ".join(map(str, numbers)) or "none yet"
            raise UnknownAttempt(f"{job_id} has no attempt {wanted}; it has {has}.")
        return [wanted]

    def steps(self, attempt_id: int) -> list[Row]:
        """An attempt's steps in order."""
        return self.rows("SELECT * FROM step WHERE attempt_id = ? ORDER BY position", (attempt_id,))

    def tries(self, step_id: int) -> list[Row]:
        """Every try of a step, in order."""
        return self.rows("SELECT * FROM step_try WHERE step_id = ? ORDER BY number", (step_id,))

    def charges(self, attempt_id: int) -> list[Row]:
        """What an attempt's money went to."""
        return self.rows("SELECT kind, micros, seconds FROM charge WHERE attempt_id = ? ORDER BY kind", (attempt_id,))

    def unreachable(self, since: str) -> list[Row]:
        """Machines that were paid for and never became reachable, given up after ``since``, newest first: ``backend``,
        ``offer``, ``ended_at``, and the ``details`` of the lease.
        """
        return self.rows(
            """
            SELECT attempt.backend, attempt.offer, attempt.ended_at, lease.details
              FROM charge JOIN attempt ON attempt.id = charge.attempt_id JOIN lease ON lease.attempt_id = attempt.id
             WHERE attempt.ended_at > ? AND charge.kind = 'waste' ORDER BY attempt.ended_at DESC
            """,
            (since,),
        )

    def bill(self, attempt_id: int) -> Row | None:
        """The provider's own account of an attempt, where one is expected; its ``provider_micros`` may be None yet."""
        rows = self.rows("SELECT provider_micros, asked_at, final FROM bill WHERE attempt_id = ?", (attempt_id,))
        return rows[0] if rows else None

    def events(self, job_id: str, after: int = 0) -> list[Row]:
        """What was told of a job after event ``after``."""
        return self.rows("SELECT * FROM event WHERE job_id = ? AND id > ? ORDER BY id", (job_id, after))

    def unfinished(self) -> int:
        """How many jobs need a worker."""
        rows = self.rows("SELECT count(*) AS n FROM job WHERE state IN ('queued', 'running')")
        return int(rows[0]["n"]) if rows else 0

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise explain(self._path, str(error)) from error


def _parsed(row: sqlite3.Row) -> Row:
    return {
        name: json.loads(row[name]) if name in _JSON_COLUMNS and isinstance(row[name], str) else row[name]
        for name in row.keys()  # noqa: SIM118  a sqlite3.Row iterates over its values
    }


def _upgrade(path: Path) -> None:
    """An older journal is brought to the newest schema by whoever opens it first; a newer one is refused."""
    from orchestrator.records.store import Store

    Store(path).close()
