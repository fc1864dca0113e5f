"""Bringing a journal file to the newest schema, without loss and under one lock."""

from __future__ import annotations

import fcntl
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

from orchestrator.records.errors import JournalError
from orchestrator.records.version import HEAD, read_version


def migrate(engine: Engine, path: Path, found: str | None) -> None:
    """Upgrade ``path`` to HEAD, keeping a copy of an older file beside it. Refuses a newer file."""
    if found is not None and found not in known_versions():
        raise JournalError(
            f"The journal {path} was written by a newer gpujob (its schema is {found}; this one knows up to {HEAD}).",
            "Upgrade gpujob, or point GPUJOB_HOME to another folder. Nothing was changed.",
        )
    with path.with_suffix(".migrating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = read_version(path)  # another process may have done it while this one waited
        if found == HEAD:
            return
        if found is not None:
            _keep_copy(path, found)
        with engine.begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)


def known_versions() -> list[str]:
    """All schemas that this program can upgrade from, newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _keep_copy(path: Path, found: str) -> None:
    copy = path.with_name(f"{path.name}.before-{HEAD}-was-{found}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
