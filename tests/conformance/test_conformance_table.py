"""The table of conformance in the docs is of today's checks and backends."""

from __future__ import annotations

from pathlib import Path

from backends.testing import CHECKS
from tests.conformance.providers import PROVIDERS


def test_the_table_in_the_docs_has_every_check_and_every_backend() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    _, _, table = page.partition("<!-- conformance by")
    assert [check.says for check in CHECKS if f"| {check.says} |" not in table] == []
    head = next(line for line in table.splitlines() if line.startswith("| what holds |"))
    assert set(head.strip("| ").split(" | ")[1:]) == set(PROVIDERS) - {"rented"}
