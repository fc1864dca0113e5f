"""The journal's file: opening it safely, and transactions that are durable when they return.

SQLite in WAL mode with ``synchronous=FULL``: one fsync per commit, and a commit that returned survives a power
cut. Both settings are read back, because SQLite ignores what it cannot honour without a word.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlmodel import Session

from orchestrator.records.errors import JournalError, explain
from orchestrator.records.version import HEAD, read_version

BUSY_SECONDS = 30.0
"""How long a writer waits for another process's transaction; ours last milliseconds."""


class Store:
    """The journal on disk. Safe to use from many threads, and from many processes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _engine(path)
        weakref.finalize(self, self._engine.dispose)  # also at exit: the last to leave folds the WAL in
        self._reading = self._engine.execution_options(gpujob_reading=True)
        with _explained(path):
            self._migrate_if_needed()
            self._check_durability()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, committed and on disk when the block ends; rolled back if it raises."""
        with _explained(self.path), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent look at the journal; objects stay readable after the block."""
        with _explained(self.path), Session(self._reading, expire_on_commit=False) as session:
            yield session

    def watch(self) -> Watch:
        """A cheap way to learn that anything was committed, for the calling thread alone."""
        with _explained(self.path):
            return Watch(self.path)

    def close(self) -> None:
        """Give the file's connections back."""
        self._engine.dispose()

    def _migrate_if_needed(self) -> None:
        found = read_version(self.path)
        if found != HEAD:
            from orchestrator.records.migrating import migrate

            migrate(self._engine, self.path, found)

    def _check_durability(self) -> None:
        with self._engine.connect() as connection:
            journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        if (journal, synchronous) != ("wal", 2):
            raise JournalError(
                f"The journal {self.path} cannot be made crash-safe: this file system gives journal_mode={journal}, "
                f"synchronous={synchronous} where wal and 2 (FULL) are needed.",
                "Point GPUJOB_HOME to a folder on a local disk.",
            )


class Watch:
    """Tells whether any process or thread has committed to the journal since the last question."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        self._seen = -1

    def changed(self) -> bool:
        """Microseconds when nothing was committed: SQLite compares one number in shared memory."""
        version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        changed, self._seen = version != self._seen, version
        return changed


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False, "isolation_level": None},
        pool_size=8,
        max_overflow=64,
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    """Queue writers at the start: a deferred reader that turns writer fails under contention without waiting."""
    reading = connection.get_execution_options().get("gpujob_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into what the user can do about it."""
    try:
        yield
    except (OperationalError, DatabaseError) as error:
        raise explain(path, str(error.orig)) from error
    except sqlite3.DatabaseError as error:
        raise explain(path, str(error)) from error
