"""Observations: an older journal is brought to the new schema, and teams share what they learned."""

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from orchestrator.cli.history import export_history, import_history, reset_history
from orchestrator.home import Home
from orchestrator.records import migrations
from orchestrator.records.learned import Recorded, newest_observations, observations_of
from orchestrator.records.observations import add_observations
from orchestrator.records.reading import Reader
from orchestrator.records.sharing import HistoryError, from_lines, identified, to_line
from orchestrator.records.store import Store
from orchestrator.records.tables import Observation

AT = "2026-11-21T10:00:00.000000Z"


def observation(number: int = 0, **more: object) -> Observation:
    values = {
        "name": "ocr", "variant": "full", "spec_digest": "abc", "backend": "pod", "offer": "host-17.example",
        "gpu": "T4", "outcome": "succeeded", "peak_ram_bytes": 3 * 10**9 + number, "run_seconds": 12.5, "at": AT,
        "versions": '{"torch": "2.8.0"}',
    }  # fmt: skip
    return identified(Observation(**{**values, **more}))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").ensure()


def journal_of_0002(path: Path) -> None:
    """A journal as version 0002 made it, with a job, its attempt and what that taught."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    engine.dispose()
    with closing(sqlite3.connect(path)) as old, old:
        old.execute(
            "INSERT INTO job VALUES"
            " ('j1', 'ocr', 'succeeded', 'succeeded', '', 5, 'cost', '{}', '{}', NULL, 0, ?, ?, ?)",
            (AT, AT, AT),
        )
        for number in (1, 2):
            old.execute(
                "INSERT INTO attempt (id, job_id, number, key, rank, backend, offer, variant, state, summary, evidence,"
                " micros_per_hour, allowed_seconds, reserved_micros, cost_micros, started_at)"
                " VALUES (?, 'j1', ?, ?, 1, 'local', 'cpu', 'full', 'ended', '', '[]', 0, 60.0, 0, 0, ?)",
                (number, number, f"j1-a{number}", AT),
            )
            old.execute(
                "INSERT INTO observation (attempt_id, name, variant, spec_digest, backend, offer, outcome,"
                " peak_ram_bytes, at) VALUES (?, 'ocr', 'full', 'abc', 'local', 'cpu', 'succeeded', ?, ?)",
                (number, number * 10**9, AT),
            )


def test_a_journal_of_0002_is_upgraded_without_loss(tmp_path):
    path = tmp_path / "journal.sqlite"
    journal_of_0002(path)
    found = observations_of(Reader(path), "ocr", "abc")
    assert sorted((each.attempt_id, each.peak_ram_bytes) for each in found) == [(1, 10**9), (2, 2 * 10**9)]
    assert all(re.fullmatch("[0-9a-f]{64}", each.content_id) for each in found)
    assert len({each.content_id for each in found}) == 2
    assert {(each.versions, each.family, each.vram_above_bytes) for each in found} == {("{}", "", None)}
    with closing(sqlite3.connect(path)) as upgraded:
        assert upgraded.execute("PRAGMA foreign_key_check").fetchall() == []
        assert upgraded.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        indexes = {name for _, name, *_ in upgraded.execute("PRAGMA index_list(observation)")}
        assert {"observation_by_job", "observation_by_age"} <= indexes
    assert list(tmp_path.glob("journal.sqlite.before-*")), "a copy of the older file is kept"


def test_an_upgraded_journal_has_the_same_columns_as_a_new_one(tmp_path):
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    journal_of_0002(old)
    for path in (old, new):
        Store(path).close()
    columns = []
    for path in (old, new):
        with closing(sqlite3.connect(path)) as journal:
            columns.append({(name, kind, needed) for _, name, kind, needed, *_ in
                            journal.execute("PRAGMA table_info(observation)")})  # fmt: skip
    assert columns[0] == columns[1]
    assert {name for name, *_ in columns[1]} == set(Observation.model_fields)
    assert {each.name for each in fields(Recorded)} == set(Observation.model_fields), "read without an ORM"


def test_what_one_exports_another_learns_once(home, tmp_path):
    add_observations(Store(home.journal), [observation(n) for n in range(3)])
    file, other = tmp_path / "shared.jsonl", Home(tmp_path / "other").ensure()
    export_history(home, file)
    for _ in range(2):
        import_history(other, file)
    import_history(home, file)
    theirs, ours = newest_observations(Reader(other.journal), 100), newest_observations(Reader(home.journal), 100)
    assert len(theirs) == len(ours) == 3
    assert [each.peak_ram_bytes for each in theirs] == [each.peak_ram_bytes for each in ours]
    assert {each.versions for each in theirs} == {'{"torch": "2.8.0"}'}
    assert {each.attempt_id for each in theirs} == {None}


def test_no_place_leaves_the_house():
    line = to_line(observation())
    assert "host-17" not in line
    assert "pod" not in line
    assert set(json.loads(line)) <= {*Observation.model_fields, "schema"} - {"backend", "offer", "attempt_id"} | {"id"}


def test_an_observation_that_came_back_is_known_by_its_content():
    again = next(from_lines([to_line(observation())]))
    assert again.content_id == observation().content_id
    assert identified(again).content_id == observation().content_id
    assert observation(1).content_id != observation().content_id


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "Line 2 has schema 2; this gpujob knows up to 1. Upgrade gpujob"),
        ({"peak_ram_bytes": -1}, "Line 2: peak_ram_bytes"),
        ({"peak_ram_bytes": "3 GB"}, "Line 2: peak_ram_bytes"),
        ({"run_seconds": float("nan")}, "Line 2: run_seconds"),
        ({"name": "x\x1b[2J"}, "Line 2: name"),
        ({"id": "1"}, "Line 2: id"),
        ({"at": "yesterday"}, "Line 2: at"),
        ({"secret": "x"}, "Line 2: secret"),
        ({"versions": {"torch": 2}}, "Line 2: versions.torch"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_imported(home, tmp_path, change, said):
    file = tmp_path / "shared.jsonl"
    wrong = json.dumps({**json.loads(to_line(observation(1))), **change})
    file.write_text(f"{to_line(observation())}\n{wrong}\n", encoding="utf-8")
    with pytest.raises(HistoryError, match=re.escape(said)):
        import_history(home, file)
    assert newest_observations(Reader(home.journal), 9) == []


@pytest.mark.parametrize("content", [b"[1]\n", b"not json\n", b"\xff\xfe\n", b'"' + b"x" * 30_000 + b'"\n', b"{}"])
def test_what_is_no_history_is_refused(home, tmp_path, content):
    file = tmp_path / "shared.jsonl"
    file.write_bytes(content)
    with pytest.raises(HistoryError):
        import_history(home, file)


def test_forgetting_all_or_one_job(home, capsys):
    store = Store(home.journal)
    add_observations(store, [observation(1), observation(2, name="other"), observation(3)])
    assert reset_history(home, "ocr", yes=False) == 1, "nobody at the terminal said yes"
    assert reset_history(home, "ocr", yes=True) == 0
    assert [each.name for each in newest_observations(Reader(home.journal), 9)] == ["other"]
    reset_history(home, None, yes=True)
    assert newest_observations(Reader(home.journal), 9) == []
    assert "--yes" in capsys.readouterr().out
