"""Everything that goes wrong on Drive: nothing is lost, nothing is there twice, and the error says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("googleapiclient", reason="NOT TESTED: google-api-python-client is not installed")

from drive_kit import CHUNK, KIB, mailbox, patiently

from backends.base import AuthError, BackendError, Rejected, Transient
from backends.channels.drive import Drive
from backends.channels.drive_replies import Absent
from tests.emulators.drive import SERVICE_ACCOUNT, DriveEmulator
from tests.emulators.drive.faults import FILES, TOKEN, UPLOADS

BIG = bytes(range(256)) * 4 * 1100
"""1100 KiB: five chunks."""


@pytest.fixture
def emulator() -> Iterator[DriveEmulator]:
    with DriveEmulator() as drive:
        yield drive


@pytest.fixture
def drive(emulator: DriveEmulator) -> Drive:
    return mailbox(emulator)


@pytest.fixture
def folder(drive: Drive) -> str:
    return drive.ensure_folder("job-1")


def contents(emulator: DriveEmulator, name: str) -> list[bytes | None]:
    """What really lies on Drive under that name, twins included."""
    return [file.content for file in emulator.files() if file.name == name]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_create_whose_reply_is_lost_makes_one_file(
    emulator: DriveEmulator, drive: Drive, folder: str, times: int
) -> None:
    emulator.faults.lost_reply(times=times)
    patiently(lambda: drive.put_bytes(folder, "a", b"once"))
    assert contents(emulator, "a") == [b"once"]
    drive.put_bytes(folder, "a", b"twice")
    assert contents(emulator, "a") == [b"twice"]


def test_a_folder_whose_reply_is_lost_is_made_once(emulator: DriveEmulator, drive: Drive) -> None:
    emulator.faults.lost_reply(times=2, path=FILES)
    emulator.faults.list_lag(60)
    folder = patiently(lambda: drive.ensure_folder("job-1"))
    assert [file.id for file in emulator.files()] == [folder]


def test_a_create_that_was_never_carried_out_is_said_to_be_passing(
    emulator: DriveEmulator, drive: Drive, folder: str
) -> None:
    emulator.faults.dropped_requests(times=2, method="POST", path=UPLOADS)
    with pytest.raises(Transient, match="it was not made"):
        drive.put_bytes(folder, "a", b"x")
    assert contents(emulator, "a") == []
    drive.put_bytes(folder, "a", b"x")
    assert contents(emulator, "a") == [b"x"]


def test_a_reply_that_comes_too_late_is_not_taken_for_the_next_one(emulator: DriveEmulator) -> None:
    hasty = mailbox(emulator, timeout=3.0)
    folder = patiently(lambda: hasty.ensure_folder("job-1"))
    made = [patiently(lambda name=name: hasty.put_bytes(folder, name, name.encode())) for name in "ab"]
    emulator.faults.slow_replies(6.0, method="GET", path=f"{FILES}/{made[0].id}")
    with pytest.raises(Transient, match="broke off"):
        hasty.entry(made[0].id)
    assert patiently(lambda: hasty.entry(made[1].id)) == made[1]


def test_a_slow_create_is_not_made_again(emulator: DriveEmulator) -> None:
    hasty = mailbox(emulator, timeout=3.0)
    folder = patiently(lambda: hasty.ensure_folder("job-1"))
    emulator.faults.slow_replies(6.0, method="POST", path=UPLOADS)
    patiently(lambda: hasty.put_bytes(folder, "a", b"once"))
    assert contents(emulator, "a") == [b"once"]


def test_chunks_that_break_are_not_sent_from_the_start(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    emulator.faults.broken_chunks(times=2)
    emulator.faults.server_errors(method="PUT", path=UPLOADS)
    drive.put_bytes(folder, "big", BIG)
    assert contents(emulator, "big") == [BIG]
    assert sum(call.method == "POST" and call.path == UPLOADS for call in emulator.requests) == 1, "one session"


def test_an_upload_goes_on_in_the_next_call(emulator: DriveEmulator, drive: Drive, folder: str, tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(done: int, total: int) -> None:
        seen.append(done)
        if done == 2 * CHUNK and len(seen) == 2:
            emulator.faults.server_errors(times=99, method="PUT", path=UPLOADS)

    (tmp_path / "one").write_bytes(BIG)
    with pytest.raises(Transient):
        drive.put_file(folder, "big", tmp_path / "one", watch)
    emulator.faults.clear()
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    drive.put_file(folder, "big", tmp_path / "elsewhere", watch)
    assert seen == [CHUNK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK, len(BIG)]
    assert contents(emulator, "big") == [BIG]


@pytest.mark.parametrize("times", [1, 2])
def test_a_lost_session_is_begun_anew(emulator: DriveEmulator, drive: Drive, folder: str, times: int) -> None:
    emulator.faults.lost_sessions(times=times)
    patiently(lambda: drive.put_bytes(folder, "big", BIG))
    assert contents(emulator, "big") == [BIG]
    emulator.faults.lost_sessions()
    drive.put_bytes(folder, "big", BIG[:-1])
    assert contents(emulator, "big") == [BIG[:-1]]


def test_the_reply_to_the_last_chunk_is_lost(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    def watch(done: int, total: int) -> None:
        if done == 4 * CHUNK:
            emulator.faults.lost_reply(times=2, method="PUT")

    drive.put_bytes(folder, "big", BIG, watch)
    assert contents(emulator, "big") == [BIG]


def test_an_old_upload_does_not_pass_for_a_newer_one(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    drive.put_bytes(folder, "big", b"first")

    def watch(done: int, total: int) -> None:
        if done == 4 * CHUNK:
            emulator.faults.lost_reply(times=99, method="PUT")

    with pytest.raises(Transient):
        drive.put_bytes(folder, "big", BIG, watch)
    emulator.faults.clear()
    assert contents(emulator, "big") == [BIG], "carried out, and nobody knows"
    drive.put_bytes(folder, "big", b"second")
    drive.put_bytes(folder, "big", BIG)
    assert contents(emulator, "big") == [BIG]


def test_an_access_token_that_ends_in_an_upload(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    drive.put_bytes(folder, "big", BIG, lambda done, total: emulator.expire_access_tokens())
    assert contents(emulator, "big") == [BIG]


@pytest.mark.parametrize("content", [b"small", BIG])
def test_damage_on_the_way_up_is_seen_and_mended(
    emulator: DriveEmulator, drive: Drive, folder: str, content: bytes
) -> None:
    emulator.faults.corrupt_uploads()
    with pytest.raises(Transient, match="has to be sent again"):
        drive.put_bytes(folder, "a", content)
    reader = mailbox(emulator)
    damaged = reader.list_files(folder)[0]
    assert damaged.damaged
    with pytest.raises(Transient, match="damaged on its way to"):
        reader.content(damaged)
    drive.put_bytes(folder, "a", content)
    assert contents(emulator, "a") == [content]
    assert not reader.list_files(folder)[0].damaged


def test_damage_on_the_way_down_is_seen(emulator: DriveEmulator, drive: Drive, folder: str, tmp_path: Path) -> None:
    made = drive.put_bytes(folder, "a", BIG)
    emulator.faults.corrupt_downloads()
    with pytest.raises(Transient, match="damaged, or an older version"):
        drive.content(made)
    assert drive.content(made) == BIG
    emulator.faults.corrupt_downloads()
    with pytest.raises(Transient):
        drive.fetch(made.id, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    drive.fetch(made.id, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BIG


def test_a_download_that_is_cut_goes_on(emulator: DriveEmulator, drive: Drive, folder: str, tmp_path: Path) -> None:
    made = drive.put_bytes(folder, "a", BIG)
    seen: list[int] = []

    def watch(done: int, total: int) -> None:
        seen.append(done)
        if done == 2 * CHUNK:
            emulator.faults.cut_downloads()

    with pytest.raises(Transient):
        drive.fetch(made.id, tmp_path / "a", watch)
    drive.fetch(made.id, tmp_path / "a", watch)
    assert seen == [CHUNK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK, len(BIG)]
    assert (tmp_path / "a").read_bytes() == BIG


def test_a_place_that_cannot_be_written_to(drive: Drive, folder: str, tmp_path: Path) -> None:
    made = drive.put_bytes(folder, "a", b"x")
    with pytest.raises(BackendError, match="cannot write"):
        drive.fetch(made.id, tmp_path / "no such folder" / "a")


def test_stale_content_is_not_taken_for_the_new_one(
    emulator: DriveEmulator, drive: Drive, folder: str, tmp_path: Path
) -> None:
    made = drive.put_bytes(folder, "a", b"old")
    emulator.faults.stale_reads(60, times=1, content_only=True)
    newer = drive.put_bytes(folder, "a", b"new")
    with pytest.raises(Transient, match="older version"):
        drive.content(newer)
    with pytest.raises(Transient):
        drive.fetch(made.id, tmp_path / "a")
    emulator.advance(61)
    assert drive.content(newer) == b"new"


def test_lists_that_lag_make_no_twins_in_one_process(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    emulator.faults.list_lag(60)
    for turn in range(3):
        drive.put_bytes(folder, "status", str(turn).encode())
    assert drive.list_files(folder) == []
    assert contents(emulator, "status") == [b"2"]


RATE_LIMITS: list[Callable[[DriveEmulator], None]] = [
    lambda e: e.faults.rate_limited(),
    lambda e: e.faults.rate_limited(reason="rateLimitExceeded"),
    lambda e: e.faults.rate_limited(status=429, reason="rateLimitExceeded"),
]


@pytest.mark.parametrize("limit", RATE_LIMITS)
def test_rate_limits_are_passing_and_say_how_long(
    emulator: DriveEmulator, drive: Drive, folder: str, limit: Callable[[DriveEmulator], None]
) -> None:
    limit(emulator)
    with pytest.raises(Transient) as caught:
        drive.put_bytes(folder, "a", b"x")
    assert caught.value.retry_after == 20
    drive.put_bytes(folder, "a", b"x")


def test_a_wait_that_google_asks_for_is_passed_on(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    emulator.faults.rate_limited(status=429, retry_after=7)
    with pytest.raises(Transient) as caught:
        drive.list_files(folder)
    assert caught.value.retry_after == 7
    emulator.faults.rate_limited(reason="dailyLimitExceeded")
    with pytest.raises(Transient) as caught:
        drive.list_files(folder)
    assert caught.value.retry_after == 3600


def test_a_rate_limit_in_an_upload_is_not_hammered(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    emulator.faults.rate_limited(method="PUT", path=UPLOADS)
    with pytest.raises(Transient):
        drive.put_bytes(folder, "big", BIG)
    assert [call.method for call in emulator.requests].count("PUT") == 1
    drive.put_bytes(folder, "big", BIG)
    assert contents(emulator, "big") == [BIG]


def test_the_real_quota_stops_and_passes(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    emulator.settings.units_per_minute_per_user = 100
    emulator.advance(60 - emulator.clock.now() % 60)
    drive.list_files(folder)
    with pytest.raises(Transient):
        drive.list_files(folder)
    emulator.advance(60)
    drive.list_files(folder)


@pytest.mark.parametrize("content", [b"small", BIG])
def test_a_full_storage_is_no_rate_limit(emulator: DriveEmulator, drive: Drive, folder: str, content: bytes) -> None:
    emulator.faults.storage_full()
    with pytest.raises(Rejected, match="storage quota") as caught:
        drive.put_bytes(folder, "a", content)
    assert "Make room" in caught.value.advice
    emulator.faults.clear()
    drive.put_bytes(folder, "a", content)
    assert contents(emulator, "a") == [content]
    assert drive.account().used == len(content)


def test_a_service_account_is_told_that_it_has_no_storage(emulator: DriveEmulator) -> None:
    robot = mailbox(emulator, user=SERVICE_ACCOUNT)
    with pytest.raises(Rejected, match="do not have storage") as caught:
        robot.put_bytes(robot.ensure_folder("x"), "a", b"x")
    assert "sign in as a person" in caught.value.advice


@pytest.mark.parametrize(
    ("reason", "kind", "advice"),
    [
        ("accessNotConfigured", Rejected, "Enable the Google Drive API"),
        ("domainPolicy", Rejected, "another account"),
        ("insufficientPermissions", AuthError, "Sign in again"),
    ],
)
def test_other_kinds_of_403(
    emulator: DriveEmulator, drive: Drive, folder: str, reason: str, kind: type[BackendError], advice: str
) -> None:
    emulator.faults.rate_limited(reason=reason)
    with pytest.raises(kind) as caught:
        drive.list_files(folder)
    assert advice in caught.value.advice


def test_a_revoked_token_says_what_to_do_and_a_new_one_is_taken_up(emulator: DriveEmulator) -> None:
    secrets = [json.dumps(emulator.sign_in())]
    drive = Drive(lambda: secrets[-1], api=emulator.url)
    folder = drive.ensure_folder("job-1")
    emulator.revoke()
    for _ in range(2):
        with pytest.raises(AuthError, match="no longer accepts") as caught:
            drive.list_files(folder)
    assert "gpujob backends setup colab" in caught.value.advice
    assert "7 days" in caught.value.advice
    secrets.append(json.dumps(emulator.sign_in()))
    assert drive.list_files(folder) == []


def test_trouble_at_the_sign_in_is_no_refusal(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    for status in (403, 429):
        emulator.expire_access_tokens()
        emulator.faults.rate_limited(times=9, status=status, path=TOKEN)
        with pytest.raises(Transient, match="sign-in has trouble"):
            drive.list_files(folder)
        emulator.faults.clear()
    drive.list_files(folder)


def test_access_tokens_that_end_are_renewed_even_in_a_batch(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    emulator.expire_access_tokens()
    found = drive.entries([folder])[folder]
    assert found
    assert found.id == folder
    emulator.advance(4000)
    drive.list_files(folder)


def test_a_folder_that_its_owner_deleted_is_made_again(emulator: DriveEmulator, drive: Drive, folder: str) -> None:
    mailbox(emulator).delete(folder)
    with pytest.raises(Absent):
        drive.put_bytes(folder, "a", b"x")
    anew = drive.ensure_folder("job-1")
    assert anew != folder
    assert drive.put_bytes(anew, "a", b"x").size == 1


def test_nothing_listens(drive: Drive, emulator: DriveEmulator, folder: str) -> None:
    emulator.close()
    with pytest.raises(Transient, match=r"cannot be reached|broke off"):
        drive.list_files(folder)


def test_a_local_file_that_is_gone(drive: Drive, folder: str, tmp_path: Path, emulator: DriveEmulator) -> None:
    (tmp_path / "big").write_bytes(BIG)

    def watch(done: int, total: int) -> None:
        (tmp_path / "big").write_bytes(BIG[: 10 * KIB])

    with pytest.raises(Rejected, match="became shorter"):
        drive.put_file(folder, "big", tmp_path / "big", watch)
