"""Which schema a journal file has, read without loading the migration machinery."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

HEAD = "0004"
"""The newest schema: the last file in ``migrations/versions``."""


def read_version(path: Path) -> str | None:
    """The file's schema, or None for a file that is new or empty. Raises sqlite3.DatabaseError if damaged."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if "alembic_version" not in tables:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return row[0] if row else None
