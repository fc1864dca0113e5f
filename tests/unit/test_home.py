"""The user's data folder: private, named in one place, refused with a word where it cannot be used."""

import stat
from pathlib import Path

import pytest

from orchestrator.home import Home, HomeError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_for_the_user_alone_also_where_it_was_there_before(tmp_path):
    open_folder = tmp_path / "open"
    open_folder.mkdir(mode=0o755)
    for root in (open_folder, tmp_path / "new"):
        home = Home(root).ensure()
        assert [mode(path) for path in (home.root, home.locks, home.jobs, home.secrets)] == [0o700] * 4


def test_a_folder_that_all_share_is_not_taken_from_them(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    Home(shared).ensure()
    assert mode(shared) == 0o1777


def test_a_file_in_its_place_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPUJOB_HOME", str(tmp_path / "file"))
    with pytest.raises(HomeError, match="is not a folder"):
        Home.locate()
