"""The mailbox on Drive while nothing goes wrong, and what its users may rely on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("googleapiclient", reason="NOT TESTED: google-api-python-client is not installed")

from drive_kit import CHUNK, KIB, mailbox, patiently

from backends.base import Rejected
from backends.channels.drive import SETTLED, Drive
from backends.channels.drive_replies import Absent
from tests.emulators.drive import DriveEmulator
from tests.emulators.drive.settings import OTHER


@pytest.fixture
def emulator() -> Iterator[DriveEmulator]:
    with DriveEmulator() as drive:
        yield drive


@pytest.fixture
def drive(emulator: DriveEmulator) -> Drive:
    return mailbox(emulator)


def test_a_file_is_written_read_and_removed(emulator: DriveEmulator, drive: Drive, tmp_path: Path) -> None:
    folder = drive.ensure_folder("job-1", "gpujob jobs")
    made = drive.put_bytes(folder, "status.json", b"0123456789")
    assert (made.name, made.size, made.parents) == ("status.json", 10, (folder,))
    assert (drive.read(made.id, 3, 4), drive.read(made.id, 8, 99), drive.read(made.id, 10)) == (b"3456", b"89", b"")
    assert drive.content(made) == b"0123456789"
    newer = drive.put_bytes(folder, "status.json", b"")
    assert (newer.id, newer.size) == (made.id, 0)
    assert drive.content(newer) == b""
    assert drive.fetch(newer.id, tmp_path / "empty").size == 0
    assert (tmp_path / "empty").read_bytes() == b""
    drive.delete(made.id)
    drive.delete(made.id)
    with pytest.raises(Absent):
        drive.read(made.id, 0)
    assert drive.put_bytes(folder, "status.json", b"again").id != made.id


def test_what_is_unchanged_is_not_sent_again(emulator: DriveEmulator, drive: Drive) -> None:
    folder = drive.ensure_folder("job-1")
    first = drive.put_bytes(folder, "a", b"same")
    before = len(emulator.requests)
    assert drive.put_bytes(folder, "a", b"same") == first
    assert all(call.path == "/batch/drive/v3" or call.batched for call in emulator.requests[before:])
    drive.delete(first.id)
    assert drive.put_bytes(folder, "a", b"same").id != first.id


def test_what_a_person_put_into_the_bin_comes_back(emulator: DriveEmulator, drive: Drive) -> None:
    folder = drive.ensure_folder("job-1")
    made = drive.put_bytes(folder, "a", b"same")
    emulator.store.all[made.id].trashed = True
    assert drive.list_files(folder) == []
    assert drive.put_bytes(folder, "a", b"same").id == made.id
    assert [each.id for each in drive.list_files(folder)] == [made.id]
    emulator.store.all[folder].trashed = True
    for content in (b"same", b"other"):
        with pytest.raises(Absent, match="bin"):
            drive.put_bytes(folder, "a", content)
    assert drive.put_bytes(drive.ensure_folder("job-1"), "a", b"same").id != made.id


def test_long_content_goes_in_chunks_and_comes_in_pieces(emulator: DriveEmulator, drive: Drive, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4 * 600 + b"end"
    (tmp_path / "up").write_bytes(content)
    folder = drive.ensure_folder("job-1")
    seen: list[tuple[int, int]] = []
    made = drive.put_file(folder, "big", tmp_path / "up", lambda done, total: seen.append((done, total)))
    assert seen == [(256 * KIB, len(content)), (512 * KIB, len(content)), (len(content), len(content))]
    seen.clear()
    drive.fetch(made.id, tmp_path / "down", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "down").read_bytes() == content
    assert seen[-1] == (len(content), len(content))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["down", "up"]


def test_names_are_taken_as_they_are(drive: Drive) -> None:
    folder = drive.ensure_folder("it's a \\ key", "x")
    assert drive.ensure_folder("it's a \\ key") == folder
    for name in ("it's", "a\\b", "ü ' and trashed = true", "It's"):
        drive.put_bytes(folder, name, name.encode())
    assert [each.name for each in drive.list_files(folder)] == sorted(
        ["it's", "a\\b", "ü ' and trashed = true", "It's"]
    )
    with pytest.raises(Rejected, match="too long"):
        drive.ensure_folder("k" * 120)


def test_another_process_finds_folder_and_files(emulator: DriveEmulator, drive: Drive) -> None:
    folder = drive.ensure_folder("job-1")
    made = drive.put_bytes(folder, "a", b"one")
    other = mailbox(emulator)
    assert other.ensure_folder("job-1") == folder
    assert other.put_bytes(folder, "a", b"two").id == made.id
    assert not emulator.twins()


def test_another_oauth_client_sees_nothing(emulator: DriveEmulator, drive: Drive) -> None:
    folder = drive.ensure_folder("job-1")
    made = drive.put_bytes(folder, "a", b"one")
    stranger = mailbox(emulator, client=OTHER)
    assert stranger.list_files(folder) == []
    with pytest.raises(Absent):
        stranger.entry(made.id)
    assert stranger.ensure_folder("job-1") != folder


def test_lists_since_a_moment_and_many_at_once(emulator: DriveEmulator, drive: Drive) -> None:
    folder = drive.ensure_folder("job-1")
    old = drive.put_bytes(folder, "old", b"x")
    emulator.advance(60)
    new = drive.put_bytes(folder, "new", b"x")
    assert [each.id for each in drive.list_files(folder, old.modified + timedelta(seconds=30))] == [new.id]
    before = len(emulator.requests)
    assert drive.entries([old.id, "gone", new.id]) == {old.id: old, "gone": None, new.id: new}
    assert sum(not call.batched for call in emulator.requests[before:]) == 1
    assert set(drive.entries(f"gone{number}" for number in range(101)).values()) == {None}
    assert sum(not call.batched for call in emulator.requests[before:]) == 3


def test_twin_files_left_by_a_crash_are_resolved(emulator: DriveEmulator, drive: Drive) -> None:
    folder = drive.ensure_folder("job-1")
    emulator.faults.list_lag(60, times=1)
    drive.put_bytes(folder, "status", b"first")
    emulator.advance(1)
    after_crash = mailbox(emulator)
    newer = after_crash.put_bytes(folder, "status", b"second")
    assert len(emulator.twins()) == 1, "the list did not show the first"
    emulator.advance(60)
    reader = mailbox(emulator)
    assert [each.id for each in reader.list_files(folder)] == [newer.id]
    assert reader.tidy(folder) == 0, "not yet"
    emulator.advance(SETTLED.total_seconds())
    assert reader.tidy(folder) == 1
    assert not emulator.twins()
    assert reader.content(reader.list_files(folder)[0]) == b"second"


def test_a_writer_removes_its_twins_when_it_looks(emulator: DriveEmulator, drive: Drive) -> None:
    folder = drive.ensure_folder("job-1")
    emulator.faults.list_lag(60, times=1)
    drive.put_bytes(folder, "status", b"first")
    emulator.advance(1)
    mailbox(emulator).put_bytes(folder, "status", b"second")
    emulator.advance(60)
    mailbox(emulator).put_bytes(folder, "status", b"third")
    assert [file.content for file in emulator.files() if file.name == "status"] == [b"third"]


def test_twin_folders_are_merged_and_nothing_in_them_is_lost(emulator: DriveEmulator, drive: Drive) -> None:
    emulator.faults.list_lag(60, times=3)
    winner = drive.ensure_folder("job-1")
    emulator.advance(1)
    hasty = mailbox(emulator)
    loser = hasty.ensure_folder("job-1")
    assert loser != winner
    hasty.put_bytes(loser, "result", b"precious")
    emulator.advance(60)
    third = mailbox(emulator)
    assert third.ensure_folder("job-1") == winner
    assert third.content(third.list_files(winner)[0]) == b"precious"
    emulator.advance(SETTLED.total_seconds())
    assert mailbox(emulator).ensure_folder("job-1") == winner
    assert not emulator.twins()


def test_folders_in_folders_are_left_to_their_keys(emulator: DriveEmulator, drive: Drive) -> None:
    top = drive.ensure_folder("top")
    emulator.faults.list_lag(60, times=1)
    winner = drive.ensure_folder("job-1", "same name", top)
    emulator.advance(1)
    mailbox(emulator).ensure_folder("job-1", "same name", top)
    other = drive.ensure_folder("job-2", "same name", top)
    emulator.advance(60 + SETTLED.total_seconds())
    assert {each.id for each in drive.list_files(top)} == {winner, other}
    assert drive.tidy(top) == 0, "a folder is never deleted for its name"


def test_many_make_one_folder_at_the_same_moment(emulator: DriveEmulator) -> None:
    starting = threading.Barrier(6)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            own = mailbox(emulator)
            own.account()
            starting.wait(60)
            own.put_bytes(own.ensure_folder("job-1"), f"f{number}", b"x")
            own.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    mailbox(emulator).ensure_folder("job-1")
    emulator.advance(SETTLED.total_seconds() + 1)
    last = mailbox(emulator)
    assert [each.name for each in last.list_files(last.ensure_folder("job-1"))] == [f"f{n}" for n in range(6)]
    assert not emulator.twins()


def test_threads_share_one_client(emulator: DriveEmulator, drive: Drive) -> None:
    folder = drive.ensure_folder("job-1")
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                made = patiently(lambda turn=turn: drive.put_bytes(folder, f"f{number}", f"{number} {turn}".encode()))
                assert drive.content(made) == f"{number} {turn}".encode()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(drive.list_files(folder)) == 8
    assert not emulator.twins()
    assert CHUNK == 256 * KIB
