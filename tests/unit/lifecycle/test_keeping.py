"""Checkpoints at home are whole, whenever the copying was interrupted."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backends.base import Progress
from backends.billing import Price
from orchestrator.home import Home
from orchestrator.lifecycle.keeping import Keeper, Late, _swap_in, mend_checkpoints
from orchestrator.lifecycle.traffic import Traffic


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "state").write_text(text)
    return path


def test_what_came_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    place = folder(tmp_path / "checkpoints", "old")
    incoming = folder(tmp_path / "incoming", "new")
    _swap_in(incoming, place)
    assert (place / "state").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "incoming"]
    assert (place / "state").stat().st_ino == (incoming / "state").stat().st_ino, "no second copy on the disk"


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        ({"checkpoints": "1"}, "1"),
        ({"checkpoints": "1", "checkpoints.new": "half"}, "1"),
        ({"checkpoints.old": "1", "checkpoints.new": "2"}, "2"),
        ({"checkpoints": "2", "checkpoints.old": "1"}, "2"),
        ({"checkpoints.new": "half"}, None),
        ({}, None),
    ],
)
def test_a_crash_at_any_moment_leaves_the_old_or_the_new(
    tmp_path: Path, left: dict[str, str], kept: str | None
) -> None:
    for name, text in left.items():
        folder(tmp_path / name, text)
    mend_checkpoints(tmp_path / "checkpoints")
    found = {path.name: (path / "state").read_text() for path in tmp_path.iterdir()}
    assert found == ({"checkpoints": kept} if kept else {})


class SlowMachine:
    """Its checkpoint comes when the test says so."""

    def __init__(self) -> None:
        self.asked, self.said = Event(), Event()

    def pull(self, path: str, dest: Path, progress: Progress) -> bool:
        if path.endswith("checkpoints"):
            self.asked.set()
            assert self.said.wait(60)
            dest.mkdir(parents=True, exist_ok=True)
            (dest / "state").write_text("half")
        return True

    def status(self, job_dir: str) -> SimpleNamespace:
        return SimpleNamespace(record={"job": job_dir})


@pytest.mark.parametrize("late", [False, True])
def test_a_copy_that_is_late_does_not_take_the_place_of_what_is_fetched(tmp_path: Path, late: bool) -> None:
    """The run is over, and its time nearly so: the copy is not waited for, and what is fetched is newer."""
    home, machine = Home(tmp_path).ensure(), SlowMachine()
    context = SimpleNamespace(
        tools=SimpleNamespace(home=home, setting=lambda _: 0.0, clock=SimpleNamespace(monotonic=lambda: 0.0)),
        job=SimpleNamespace(id="j"),
        attempt=SimpleNamespace(number=1),
        spec=SimpleNamespace(checkpoints=("checkpoints",)),
        backend=SimpleNamespace(connect=lambda _: machine),
        lease=None,
        traffic=Traffic(tmp_path / "traffic"),
        key="j-a1",
        folder=home.attempt("j", 1),
    )
    tenure = SimpleNamespace(own_machine=False, seconds_left=41.0, price=Price(0))
    with Keeper(cast("Any", context), cast("Any", tenure)) as keeper:
        keeper.look()
        assert machine.asked.wait(60)
        copy = keeper._copying
        if not late:
            machine.said.set()
            assert copy
            copy.result(60)
    machine.said.set()
    assert copy
    assert isinstance(copy.exception(60), Late if late else type(None))
    kept = home.checkpoints("j", 1) / "checkpoints" / "state"
    assert kept.exists() is not late
    assert (home.attempt("j", 1) / "status.json").exists() is not late
