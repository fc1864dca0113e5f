"""Everything at once, in an order that chance makes: what was acknowledged is there, once, and whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("googleapiclient", reason="NOT TESTED: google-api-python-client is not installed")

from drive_kit import CHUNK, mailbox, patiently

from backends.channels.drive import SETTLED
from tests.emulators.drive import DriveEmulator
from tests.emulators.drive.faults import Faults

TROUBLE: list[Callable[[Faults], None]] = [
    lambda faults: faults.lost_reply(times=2),
    lambda faults: faults.lost_reply(times=2, method="PATCH"),
    lambda faults: faults.lost_reply(times=1, method="PUT"),
    lambda faults: faults.dropped_requests(times=2),
    lambda faults: faults.server_errors(times=2),
    lambda faults: faults.rate_limited(),
    lambda faults: faults.rate_limited(status=429),
    lambda faults: faults.list_lag(60, times=2),
    lambda faults: faults.stale_reads(30, times=1),
    lambda faults: faults.stale_reads(30, times=1, content_only=True),
    lambda faults: faults.corrupt_uploads(),
    lambda faults: faults.corrupt_downloads(),
    lambda faults: faults.cut_downloads(),
    lambda faults: faults.broken_chunks(),
    lambda faults: faults.lost_sessions(),
]
STEPS, NAMES = 60, "abcd"


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_nothing_is_there_twice(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    promised: dict[str, bytes] = {}
    with DriveEmulator() as emulator:
        drive = mailbox(emulator)
        for _ in range(STEPS):
            emulator.advance(chance.uniform(0, 40))
            for trouble in chance.sample(TROUBLE, 2):
                trouble(emulator.faults)
            if chance.random() < 0.1:
                emulator.expire_access_tokens()
            if chance.random() < 0.15:
                drive = mailbox(emulator)  # the writer was killed and begins again, knowing nothing
            name, content = chance.choice(NAMES), chance.randbytes(chance.choice([0, 50, CHUNK + 1, 3 * CHUNK]))
            client = drive
            folder = patiently(lambda client=client: client.ensure_folder("job-1"), tries=20)
            patiently(lambda: client.put_bytes(folder, name, content), tries=20)  # noqa: B023
            promised[name] = content
            emulator.faults.clear()
        emulator.advance(2 * SETTLED.total_seconds())
        reader = mailbox(emulator)
        folder = reader.ensure_folder("job-1")
        reader.tidy(folder)
        found = {each.name: each for each in reader.list_files(folder)}
        assert {name: reader.content(each) for name, each in found.items()} == promised
        for name, each in found.items():
            reader.fetch(each.id, tmp_path / name)
            assert (tmp_path / name).read_bytes() == promised[name]
        emulator.advance(2 * SETTLED.total_seconds())
        mailbox(emulator).ensure_folder("job-1")
        assert not emulator.twins()
