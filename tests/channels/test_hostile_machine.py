"""A machine that lies: whatever it sends, nothing lands outside of the destination and nothing grows without bound."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from channels_kit import content, silent

from backends.base import BackendError, Rejected, Transient
from backends.channels import ssh_connection
from backends.channels.ssh import SshMachine
from backends.runner.courier import MAGIC
from backends.runner.parcels import PART
from backends.runner.wire import BLOCK, Outgoing

EVIL = """\
import os
def main(argv):
    with open({payload!r}, "rb") as file:
        data = file.read()
    while data:
        data = data[os.write(1, data):]
    while os.read(0, 1 << 16):
        pass
    return 0
"""

FOLDER = ["d", "", 0, 0, 0, ""]


def file(name: str, size: int = 1, stamp: int = 10**18) -> list[Any]:
    return ["f", name, size, stamp, 0o644, ""]


def blocks(*parts: Any) -> bytes:
    """What an honest courier would send: values as lines, bytes as they are."""
    sent: list[bytes] = []
    out = Outgoing(sent.append)
    for part in parts:
        if isinstance(part, bytes):
            for begin in range(0, len(part), BLOCK):
                out.put(part[begin : begin + BLOCK])
        else:
            out.line(part)
    out.flush()
    return b"".join(sent)


def listed(*items: list[Any], count: int | None = None, size: int = 100) -> bytes:
    return blocks({"count": len(items) if count is None else count, "bytes": size}, *items)


def sent(data: bytes, digest: bytes | None = None) -> bytes:
    return b"F" + data + b"K" + (digest or hashlib.sha256(data).digest())


def deflated(data: bytes) -> bytes:
    body = zlib.compress(data, 9)
    return struct.pack(">cI", b"z", len(body)) + body


@pytest.fixture
def evil(
    over_ssh: Callable[..., SshMachine], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SshMachine]:
    """Makes a machine whose courier sends what it is given, and is then silent for longer than it is waited for."""
    monkeypatch.setattr(ssh_connection, "IO_TIMEOUT", 6.0)

    def make(payload: bytes, *, greeting: bytes = MAGIC, **caps: int) -> SshMachine:
        machine = over_ssh(**caps)
        machine.reach()
        (courier,) = (root / ".gpujob").rglob("courier.py")
        (tmp_path / "payload").write_bytes(greeting + payload)
        courier.write_text(EVIL.format(payload=str(tmp_path / "payload")))
        return machine

    return make


DEEP = "/".join("d" * 200 for _ in range(30))

LIES: dict[str, bytes] = {
    "upwards": listed(FOLDER, file("../escaped")),
    "upwards inside": listed(FOLDER, ["d", "a", 0, 0, 0, ""], file("a/../../escaped")),
    "absolute": listed(FOLDER, file("/tmp/gpujob-escaped")),
    "dot": listed(FOLDER, file(".")),
    "dots": listed(FOLDER, ["d", "..", 0, 0, 0, ""], file("../escaped")),
    "empty component": listed(FOLDER, ["d", "a", 0, 0, 0, ""], file("a//b")),
    "NUL": listed(FOLDER, file("a\0b")),
    "a name of 256 bytes": listed(FOLDER, file("é" * 128)),
    "a path of 6000 bytes": listed(FOLDER, *(["d", DEEP[:n], 0, 0, 0, ""] for n in range(200, 6030, 201)), file(DEEP)),
    "a lone surrogate": listed(FOLDER, file("\ud800")),
    "our own part": listed(FOLDER, file(PART)),
    "a link": listed(FOLDER, ["l", "link", 0, 0, 0, "/etc"], file("link/passwd")),
    "a device": listed(FOLDER, ["b", "sda", 0, 0, 0, ""]),
    "a pipe": listed(FOLDER, ["?", "fifo", 0, 0, 0, ""]),
    "a name twice": listed(FOLDER, file("a"), file("a")),
    "a file, then a folder": listed(FOLDER, file("a"), ["d", "a", 0, 0, 0, ""]),
    "a file below a file": listed(FOLDER, file("a"), file("a/b")),
    "a folder that was not named": listed(FOLDER, file("a/b")),
    "two tops": listed(FOLDER, FOLDER),
    "no top": listed(file("a")),
    "a negative size": listed(FOLDER, file("a", -5)),
    "a size that is true": listed(FOLDER, ["f", "a", True, 0, 0, ""]),
    "a size that is text": listed(FOLDER, ["f", "a", "5", 0, 0, ""]),
    "a fraction": listed(FOLDER, ["f", "a", 1.5, 0, 0, ""]),
    "a folder with a size": listed(FOLDER, ["d", "a", 5, 0, 0, ""]),
    "a time beyond all times": listed(FOLDER, file("a", 1, 1 << 70)),
    "larger than said": listed(FOLDER, file("a", 101), size=100),
    "no count": blocks({"bytes": 5}),
    "a count below zero": blocks({"count": -1, "bytes": 5}),
    "not an item": listed(FOLDER, ["f"]),
    "a mapping": listed(FOLDER, {"name": "a"}),  # type: ignore[arg-type]
    "too many files": listed(FOLDER, count=1001),
    "too many bytes": listed(FOLDER, file("a", 10**7), size=10**7),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_listing_that_no_folder_can_have_is_rejected(
    evil: Callable[..., SshMachine], tmp_path: Path, lie: str
) -> None:
    machine = evil(LIES[lie], max_files=1000, max_bytes=10**6)
    with pytest.raises(Rejected) as error:
        machine.pull("job/results", tmp_path / "home" / "results", silent)
    assert error.value.advice
    assert not (tmp_path / "home").exists()
    assert not list(tmp_path.glob("*escaped"))
    assert not Path("/tmp/gpujob-escaped").exists()


NOISE: dict[str, bytes] = {
    "no blocks": b"hello world, I am a login banner",
    "a block of 4 GB": struct.pack(">cI", b"r", 2**32 - 1),
    "an empty block": struct.pack(">cI", b"r", 0),
    "a bomb": deflated(bytes(BLOCK + 1)),
    "damaged": struct.pack(">cI", b"z", 5) + b"12345",
    "a tail": struct.pack(">cI", b"z", 13) + zlib.compress(b"{}")[:10] + b"xyz",
    "no JSON": blocks(b"]\n"),
    "nested JSON": blocks(b"[" * 60_000 + b"\n"),
    "a line without end": blocks(b'"' + b"x" * (1 << 27)),
    "no object": blocks([1, 2]),
    "the end": b"",
}


@pytest.mark.parametrize("noise", NOISE)
def test_what_is_no_answer_is_transient(evil: Callable[..., SshMachine], tmp_path: Path, noise: str) -> None:
    machine = evil(NOISE[noise])
    with pytest.raises(Transient):
        machine.pull("job/results", tmp_path / "home", silent)
    with pytest.raises(Transient):
        machine.read("job/file", 0)
    assert not (tmp_path / "home").exists()


CONTENT: dict[str, bytes] = {
    "damaged": sent(b"abc", bytes(32)),
    "cut": b"Fab",
    "a strange word": b"?abc",
    "changed": b"C",
    "changed at the end": b"FabcC" + bytes(32),
    "nothing": b"",
}


@pytest.mark.parametrize("lie", CONTENT)
def test_content_that_is_not_what_was_listed_never_gets_its_name(
    evil: Callable[..., SshMachine], tmp_path: Path, lie: str
) -> None:
    machine = evil(listed(FOLDER, file("good"), file("bad", 3)) + blocks(sent(b"!") + CONTENT[lie]))
    with pytest.raises(Transient):
        machine.pull("job/results", tmp_path / "home", silent)
    assert content(tmp_path / "home") == {"good": b"!"}


def test_a_large_file_that_arrives_damaged_is_begun_anew(evil: Callable[..., SshMachine], tmp_path: Path) -> None:
    size = 3 * BLOCK
    machine = evil(blocks({"count": 2, "bytes": size}, FOLDER, file("big", size), sent(bytes(size), bytes(32))))
    with pytest.raises(Transient, match="damaged"):
        machine.pull("job/results", tmp_path / "home", silent)
    assert content(tmp_path / "home") == {}


def test_bytes_beyond_what_was_listed_are_not_read(evil: Callable[..., SshMachine], tmp_path: Path) -> None:
    machine = evil(listed(FOLDER, file("a", 3)) + blocks(sent(b"abc"), bytes(1 << 24)))
    assert machine.pull("job/results", tmp_path / "home", silent)
    assert content(tmp_path / "home") == {"a": b"abc"}


def test_a_flood_before_the_greeting_ends_it(evil: Callable[..., SshMachine], tmp_path: Path) -> None:
    machine = evil(bytes(1 << 24), greeting=b"")
    with pytest.raises(Transient):
        machine.pull("job/results", tmp_path / "home", silent)


def test_words_of_a_machine_do_not_drive_the_terminal(evil: Callable[..., SshMachine], tmp_path: Path) -> None:
    machine = evil(blocks({"error": "\x1b]0;owned\x07" + "A" * 10_000, "errno": "ENOSPC"}))
    with pytest.raises(Rejected) as error:
        machine.pull("job/results", tmp_path / "home", silent)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("count", [-1, 11, True, "5", 2**40])
def test_reading_gets_no_more_than_was_asked_for(evil: Callable[..., SshMachine], count: object) -> None:
    with pytest.raises(Transient):
        evil(blocks({"bytes": count}, bytes(1 << 20))).read("job/log", 0, 10)


@pytest.mark.parametrize(
    "wants",
    [
        None,
        {},
        [[0, 0]],
        [[1, 0], [1, 0]],
        [[2, 0], [1, 0]],
        [[9, 0]],
        [[-1, 0]],
        [[1, 99]],
        [[1, -1]],
        [["a", 0]],
        [1],
    ],
    ids=json.dumps,
)
def test_asking_for_what_was_not_offered(evil: Callable[..., SshMachine], tmp_path: Path, wants: object) -> None:
    (tmp_path / "tree").mkdir()
    for name in ("a", "b"):
        (tmp_path / "tree" / name).write_text("12345")
    with pytest.raises(BackendError):
        evil(blocks({"wants": wants})).push(tmp_path / "tree", "job/work", silent)


@pytest.mark.parametrize("folder", [5, ["a"], "x" * 300], ids=["a number", "a list", "endless"])
def test_lanes_in_a_folder_that_is_none(evil: Callable[..., SshMachine], tmp_path: Path, folder: object) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("12345")
    with pytest.raises(BackendError, match="no name"):
        evil(blocks({"wants": [[1, 0]], "lanes": folder})).push(tmp_path / "tree", "job/work", silent)


RUNNER = """\
import sys
def main(argv):
    sys.stdout.write({text!r} * {times})
    return {code}
"""

STATUSES: dict[str, tuple[str, int]] = {
    "nothing": ("", 1),
    "no JSON": ("hello\x1b[2J\n", 1),
    "no object": ("[]\n", 1),
    "an unknown phase": ('{"phase": "heaven", "record": {}}\n', 1),
    "no record": ('{"phase": "ended"}\n', 1),
    "a record that is a number": ('{"phase": "ended", "record": 5}\n', 1),
    "deep": ("[" * 100_000, 1),
    "endless": ("x" * (1 << 20), 64),
}


@pytest.mark.parametrize("answer", STATUSES)
def test_a_status_that_is_none(over_ssh: Callable[..., SshMachine], root: Path, answer: str) -> None:
    machine = over_ssh()
    machine.reach()
    (runner,) = (root / ".gpujob").rglob("runner.py")
    text, times = STATUSES[answer]
    runner.write_text(RUNNER.format(text=text, times=times, code=0))
    with pytest.raises(BackendError) as error:
        machine.status("job")
    assert "\x1b" not in str(error.value)
