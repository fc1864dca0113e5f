"""Checkpoints at home are whole, whenever the copying was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.lifecycle.keeping import _swap_in, mend_checkpoints


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
