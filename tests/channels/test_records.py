"""A record from a machine that lies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.channels.records import checked_record
from tests.runner.runner_kit import Job

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_an_honest_record_is_as_it_was(job: Job) -> None:
    record = job.run("echo hello; exit 3")
    assert checked_record(record) == record


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exit_code", "0"),
        ("exit_code", True),
        ("peak_ram_bytes", float("nan")),
        ("peak_ram_bytes", float("inf")),
        ("run_seconds", 10**400),
        ("ended_at", [1]),
        ("signal", {}),
        ("log_bytes", 5),
        ("versions", ["torch"]),
        ("stop_reason", ["a"]),
    ],
)
def test_what_cannot_be_is_null(name: str, value: Any) -> None:
    assert checked_record({name: value, "key": "k"}) == {name: None, "key": "k"}


@given(st.dictionaries(st.sampled_from(["exit_code", "versions", "log_bytes", "key", "phase"]) | st.text(), ANYTHING))
def test_whatever_comes_is_bounded_and_plain(record: dict[str, Any]) -> None:
    checked = checked_record(record)
    assert json.loads(json.dumps(checked, allow_nan=False)) == checked
    assert checked.get("exit_code") is None or type(checked["exit_code"]) in (int, float)
