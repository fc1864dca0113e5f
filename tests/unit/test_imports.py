"""What a command loads: looking at jobs must not wait for an ORM, a validator or a cloud's SDK to be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.records.store import Store

SDKS = frozenset(
    {"boto3", "botocore", "googleapiclient", "google", "paramiko", "httpx", "runpod", "keyring", "procrastinate"}
)
ORM = frozenset({"sqlalchemy", "sqlmodel", "alembic"})
HEAVY = SDKS | ORM | {"pydantic", "pydantic_core", "yaml", "rich", "tenacity", "asyncio"}
"""Top-level packages that no command which only looks may load."""

MAIN = """\
import sys
from orchestrator.cli.failing import guarded
from orchestrator.cli.main import app
code = guarded(app)
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""

JOB = """
INSERT INTO job (id, name, state, summary, budget_micros, priority, spec, options, cancel_requested, created_at)
VALUES ('noop-abcde', 'noop', 'failed', '', 0, 'cost', '{}', '{}', 0, '2026-11-01T00:00:00.000000Z')
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An up-to-date journal with one job, and a spec beside it."""
    folder = tmp_path_factory.mktemp("imports")
    store = Store(folder / "journal.sqlite")
    with store.write() as session:
        session.connection().exec_driver_sql(JOB)
    store.close()
    (folder / "noop.yaml").write_text('name: noop\nworkdir: work\nrun: "true"\n')
    (folder / "work").mkdir()
    return folder


def loaded(home: Path, *words: str) -> frozenset[str]:
    """The top-level packages in memory after a command."""
    env = {**os.environ, "GPUJOB_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", MAIN, *words], env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return frozenset(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["submit", "--help"],
        ["ls"],
        ["ls", "--json"],
        ["show", "noop"],
        ["report"],
        ["logs", "noop"],
        ["results", "noop"],
        ["config", "list"],
    ],
    ids=" ".join,
)
def test_looking_loads_nothing_heavy(home: Path, words: list[str]) -> None:
    assert not loaded(home, *words) & HEAVY


def test_an_empty_home_is_looked_at_as_lightly(tmp_path: Path) -> None:
    assert not loaded(tmp_path, "ls") & HEAVY


@pytest.mark.parametrize("command", ["plan", "validate"])
def test_planning_loads_no_orm_and_no_sdk(home: Path, command: str) -> None:
    """It reads a spec, so it needs YAML and the validator."""
    budget = ["--budget", "1"] * (command == "plan")
    assert not loaded(home, command, str(home / "noop.yaml"), *budget) & (SDKS | ORM)


def test_the_first_plan_of_all_loads_no_orm_either(home: Path, tmp_path: Path) -> None:
    assert not loaded(tmp_path, "plan", str(home / "noop.yaml"), "--budget", "1") & ORM


def test_estimating_loads_no_database(home: Path) -> None:
    spec = home / "model.yaml"
    spec.write_text('name: m\nworkdir: work\nrun: "true"\nmodel: {hf: microsoft/phi-1_5}\n')
    databases = {"sqlalchemy", "sqlmodel", "alembic"}
    assert not loaded(home, "estimate", str(spec)) & (SDKS | databases | {"huggingface_hub", "rich", "asyncio"})


def test_submitting_loads_no_migrations_and_no_sdk(home: Path) -> None:
    """Also where nothing is feasible, which submits nothing and so leaves no worker behind."""
    spec = home / "huge.yaml"
    spec.write_text('name: huge\nworkdir: work\nrun: "true"\nneeds: {gpu: none, ram: 900 TB}\n')
    env = {**os.environ, "GPUJOB_HOME": str(home)}
    command = [sys.executable, "-c", MAIN, "submit", str(spec), "--budget", "1"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 3, done.stdout + done.stderr
    assert not frozenset(done.stderr.splitlines()[-1].split()) & (SDKS | {"alembic"})
