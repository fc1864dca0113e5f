"""Locks under contention: who only looks is never taken for who holds."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestrator.lifecycle.locks import anyone_present, is_held, presence, try_descriptor, try_lock

LOOKS = 500


def test_many_lookers_see_nobody(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: anyone_present(tmp_path / "lock"), range(LOOKS)))
        held = list(pool.map(lambda _: is_held(tmp_path / "lock"), range(LOOKS)))
    assert not any(seen)
    assert not any(held)


def test_presence_is_seen_by_all_while_others_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    def look(number: int) -> bool:
        if number % 3:
            return anyone_present(path)
        with presence(path):
            return anyone_present(path)

    with presence(path), ThreadPoolExecutor(4) as pool:
        assert all(pool.map(look, range(LOOKS)))
    assert not anyone_present(path)


def test_one_holder_at_a_time_also_when_the_file_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    inside: list[int] = []

    def hold(number: int) -> bool:
        with try_lock(path) as mine:
            if mine:
                inside.append(number)
                assert inside == [number]
                assert is_held(path)
                path.unlink()
                inside.remove(number)
            return mine

    with ThreadPoolExecutor(4) as pool:
        assert any(pool.map(hold, range(LOOKS)))


def test_a_lock_goes_with_the_child_that_inherits_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with try_descriptor(path) as descriptor:
        assert descriptor is not None
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,))
    assert is_held(path)
    child.communicate(b"\n")
    assert not is_held(path)
