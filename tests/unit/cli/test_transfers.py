"""How a transfer is told, and what its rate and total are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.cli.transfers import transfer_text
from orchestrator.lifecycle.following import Transfer
from orchestrator.records.tables import Attempt


class Standing:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def attempt() -> Attempt:
    return Attempt(
        job_id="j", number=2, key="j-a2", rank=2, backend="rented", offer="small", variant="v", micros_per_hour=0,
        allowed_seconds=1.0, reserved_micros=0, started_at="",
    )  # fmt: skip


def test_what_is_known_is_told() -> None:
    assert transfer_text("upload", 12_000_000, 40_000_000, 4_000_000) == "upload 12 MB of 40 MB, 4 MB/s, 7.0 s left"
    assert transfer_text("fetch", 12_000_000, 0, 0) == "fetch 12 MB"
    assert transfer_text("fetch", 5, 5, 2) == "fetch 5 B of 5 B, 2 B/s"


def test_the_rate_is_that_of_the_last_seconds_and_parts_add_up(tmp_path: Path) -> None:
    clock = Standing()
    sent = Transfer(tmp_path / "live.json", attempt(), "upload", clock, lambda _: None)
    sent(0, 1000)
    for done in (100, 200, 300, 400):
        clock.sleep(1.0)
        sent(done, 1000)
    shown = json.loads((tmp_path / "live.json").read_text())
    assert (shown["attempt"], shown["phase"], shown["done"], shown["total"]) == (2, "upload", 400, 1000)
    assert shown["bytes_per_second"] == 100
    for done in (700, 1000):
        clock.sleep(1.0)
        sent(done, 1000)
    sent(0, 50)
    sent(50, 50)
    assert sent.bytes == 1050


def test_no_room_to_show_it_does_not_end_it(tmp_path: Path) -> None:
    sent = Transfer(tmp_path / "nowhere" / "live.json", attempt(), "fetch", Standing(), lambda _: None)
    sent(10, 10)
    assert sent.bytes == 10


class OverError(Exception):
    pass


def test_a_transfer_is_ended_by_what_its_check_raises(tmp_path: Path) -> None:
    clock = Standing()

    def check(lacking: int) -> None:
        del lacking
        if clock.seconds > 101:
            raise OverError

    sent = Transfer(tmp_path / "live.json", attempt(), "upload", clock, check)
    sent(0, 1000)
    clock.sleep(2)
    with pytest.raises(OverError):
        sent(1, 1000)
