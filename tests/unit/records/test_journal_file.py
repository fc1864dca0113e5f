"""The journal's file: damaged, old, new, full, and how it is kept on the disk."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text

from orchestrator.records.errors import DiskFull, JournalError
from orchestrator.records.jobs import add_job, note
from orchestrator.records.reading import Reader
from orchestrator.records.store import Store
from orchestrator.records.tables import Job
from orchestrator.records.version import HEAD, read_version

AT = "2026-01-02T03:04:05.000006Z"


NULLS = ", ".join(["NULL"] * 5)
NUMBERS = f"0, 60, 0, 0, '{AT}', NULL"


def new_job(number: int) -> Job:
    return Job(id=f"job-{number}", name="job", budget_micros=1, priority="cost", spec="{}", options="{}", created_at=AT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def filled(path: Path) -> Iterator[Path]:
    """A closed journal of 200 jobs, all in the one file."""
    store = Store(path)
    with store.write() as session:
        session.add_all(new_job(number) for number in range(200))
    store.close()
    assert not path.with_name(path.name + "-wal").exists()
    return path


def test_a_commit_is_durable(path: Path) -> None:
    store = Store(path)
    with store.read() as session:
        assert session.connection().exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert session.connection().exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert session.connection().exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    store.close()


def test_each_commit_is_one_fsync(path: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("NOT TESTED: counting fsyncs needs strace")
    trace = tmp_path / "trace"
    program = (
        "import sys; from pathlib import Path; from orchestrator.records.store import Store;"
        "from orchestrator.records.jobs import add_job, note; from orchestrator.records.tables import Job;"
        "store = Store(Path(sys.argv[1]));"
        "add_job(store, Job(id='j', name='j', budget_micros=1, priority='cost', spec='{}', options='{}',"
        " created_at='now'), 'new');"
        "print('begin', file=sys.stderr, flush=True);"
        "[note(store, 'j', 'now', 'kind', 'text') for _ in range(100)];"
        "print('end', file=sys.stderr, flush=True)"
    )
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=fsync,fdatasync,write", "-o", trace, sys.executable, "-c", program, path],
        capture_output=True,
        text=True,
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"NOT TESTED: strace may not trace here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    begin, end = (next(i for i, line in enumerate(lines) if f'"{word}' in line) for word in ("begin", "end"))
    synced = sum("sync(" in line for line in lines[begin:end])
    assert 100 <= synced <= 110  # one per commit, and a checkpoint's few


@pytest.mark.parametrize("look", [Reader, Store])
def test_garbage_is_refused_and_left_alone(path: Path, look: type[Reader | Store]) -> None:
    path.write_bytes(b"this is not a database " * 500)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="damaged") as raised:
        look(path)
    assert "Nothing was changed" in raised.value.advice
    assert str(path) in raised.value.advice
    assert path.read_bytes() == before


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_truncated_journal_is_refused(filled: Path, share: float) -> None:
    data = filled.read_bytes()
    filled.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(JournalError, match="damaged"):
        list_all(filled)
    with pytest.raises(JournalError, match="damaged"):
        add_job(Store(filled), new_job(1000), "new")


@pytest.mark.parametrize("at", [100, 5000, 20000, 40000])
def test_overwritten_pages_are_refused_or_harmless(filled: Path, at: int) -> None:
    """Whatever was hit, no reader makes up jobs and none ends in a traceback."""
    with filled.open("r+b") as file:
        file.seek(at)
        file.write(b"\xde\xad\xbe\xef" * 1024)
    try:
        found = list_all(filled)
    except JournalError as error:
        found = []
        said = str(error)
    else:
        said = "damaged"
    assert "damaged" in said
    assert set(found) <= {f"job-{number}" for number in range(200)}


def list_all(path: Path) -> list[str]:
    reader = Reader(path)
    try:
        return [row["id"] for row in reader.jobs(1000)]
    finally:
        reader.close()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_wal_loses_only_what_was_cut(path: Path, tmp_path: Path, share: float) -> None:
    """As after a crash: the file and its -wal, copied while the journal was open."""
    store = Store(path)
    for number in range(50):
        add_job(store, new_job(number), "submitted")
    for name in (path.name, path.name + "-wal"):
        shutil.copy(path.with_name(name), tmp_path / f"copy-{name}")
    store.close()
    wal = tmp_path / f"copy-{path.name}-wal"
    wal.write_bytes(wal.read_bytes()[: int(wal.stat().st_size * share)])
    copy = tmp_path / f"copy-{path.name}"
    if share == 0.0:
        assert set(list_or_nothing(copy)) == set()
        return
    found = list_all(copy)
    assert sorted(found, key=lambda name: int(name.removeprefix("job-"))) == [f"job-{n}" for n in range(len(found))]
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def list_or_nothing(path: Path) -> list[str]:
    """A journal whose tables were all in the lost -wal is an empty one."""
    return list_all(path)


def test_a_full_disk_loses_nothing(filled: Path) -> None:
    store = Store(filled)

    def no_more_pages(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0]}")

    event.listen(store._engine, "checkout", no_more_pages)
    with pytest.raises(DiskFull, match="no room left") as raised:
        add_many(store)
    assert "gpujob resume" in raised.value.advice
    event.remove(store._engine, "checkout", no_more_pages)
    store.close()
    kept = len(list_all(filled))
    assert kept >= 200
    again = Store(filled)
    add_job(again, new_job(999), "there is room now")
    again.close()
    assert len(list_all(filled)) == kept + 1
    with closing(sqlite3.connect(filled)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def add_many(store: Store) -> None:
    for number in range(200, 400):
        add_job(store, new_job(number), "x" * 2000)


def old_journal(path: Path) -> None:
    """A journal as the first schema made it, with a row in every table."""
    from alembic import command

    from orchestrator.records import migrating

    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = migrating._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for row in (
            f"job VALUES ('j', 'j', 'running', NULL, '', 5, 'cost', '{{}}', '{{}}', NULL, 0, '{AT}', '{AT}', NULL)",
            f"attempt VALUES (1, 'j', 1, 'k', 1, 'l', 'c', NULL, 'v', 'open', NULL, '', '[]', {NULLS}, {NUMBERS})",
            f"event VALUES (1, 'j', NULL, '{AT}', 'submitted', 'hello', '{{}}')",
            f"charge VALUES (1, 1, 'j', 'run', 3, 1.5, '{AT}')",
            f"lease VALUES ('j-a1', 1, 'local', 'j-a1', 'live', '{AT}', NULL, '{{}}')",
            "step VALUES (1, 1, 'provision', 0, 'done', '{}')",
            f"step_try VALUES (1, 1, 1, 'done', '{AT}', 0.5, NULL, NULL)",
        ):
            connection.execute(text(f"INSERT INTO {row.replace(':', chr(92) + ':')}"))
    engine.dispose()


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}


@pytest.mark.parametrize("opened_by", [Store, Reader])
def test_an_older_journal_is_upgraded_without_loss(path: Path, opened_by: type[Store | Reader]) -> None:
    old_journal(path)
    before = contents(path)
    opened_by(path).close()
    after = contents(path)
    assert read_version(path) == HEAD
    for name in before.keys() - {"alembic_version"}:
        assert before[name] == [row[: len(before[name][0])] for row in after[name]], name
        assert before[name], name
    copy = path.with_name(f"{path.name}.before-{HEAD}-was-0001")
    assert contents(copy) == before
    store = Store(path)
    note(store, "j", AT, "kind", "the upgraded journal is written to")
    store.close()


def test_a_newer_journal_is_refused_and_left_alone(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = filled.read_bytes()
    for look in (Store, Reader):
        with pytest.raises(JournalError, match="newer gpujob") as raised:
            look(filled)
        assert "Upgrade gpujob" in raised.value.advice
    assert filled.read_bytes() == before
    assert list(filled.parent.glob("*before*")) == []


def test_two_upgrades_at_once_are_one(path: Path) -> None:
    old_journal(path)
    program = (
        "import sys; from pathlib import Path; from orchestrator.records.store import Store; Store(Path(sys.argv[1]))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, path], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in started:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert read_version(path) == HEAD
    assert len(contents(path)["job"]) == 1
