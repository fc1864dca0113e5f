"""Files that a machine brings by itself: from a real HTTP server, by the courier behind a real sshd."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from channels_kit import content, silent

from backends.base import Transient
from backends.channels import sources
from backends.channels.sources import Source
from backends.channels.ssh import SshMachine
from backends.runner.parcels import PART, Item
from backends.runner.wire import Incoming, Outgoing

BODIES = {f"/{name}": os.urandom(300_000) for name in "abc"}
STAMP, MODE = 1_700_000_000_123_456_789, 0o640
SECRET = "X-Amz-Signature=5ec3e7"


class Handler(BaseHTTPRequestHandler):
    """Has what is in ``BODIES``; all else is refused."""

    def do_GET(self) -> None:
        body = BODIES.get(self.path.partition("?")[0])
        if body is None:
            self.send_error(403)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()
    thread.join()


def source(server: str, path: str, name: str, body: bytes, size: int | None = None) -> Source:
    item = Item("f", name, len(body) if size is None else size, STAMP, MODE)
    return Source(item, hashlib.sha256(body).hexdigest(), f"{server}{path}?{SECRET}")


def test_files_come_whole_with_their_time_and_mode(
    over_ssh: Callable[..., SshMachine], server: str, root: Path, tmp_path: Path
) -> None:
    machine = over_ssh()
    wanted = [
        source(server, "/a", "deep/er/a b", BODIES["/a"]),
        source(server, "/b", "b", BODIES["/b"]),
        source(server, "/c", "c", BODIES["/a"]),
    ]
    files = [each.item for each in wanted]
    assert machine.lacking("job/work", files) == files
    steps: list[tuple[int, int]] = []
    brought = machine.fetch("job/work", wanted, lambda done, total: steps.append((done, total)))
    assert (brought.broken, brought.why) == ((wanted[2],), ""), "c is not what was asked for"
    assert all(done <= total == 900_000 for done, total in steps)
    assert machine.lacking("job/work", files) == [files[2]]
    assert not list((root / "job" / "work").glob(f"{PART}*"))
    there = root / "job/work/deep/er/a b"
    assert (there.read_bytes(), there.stat().st_mtime_ns, there.stat().st_mode & 0o777) == (BODIES["/a"], STAMP, MODE)
    tree = tmp_path / "tree"
    (tree / "deep/er").mkdir(parents=True)
    for name, body in (("deep/er/a b", BODIES["/a"]), ("b", BODIES["/b"]), ("c", BODIES["/c"])):
        (tree / name).write_bytes(body)
        (tree / name).chmod(MODE)
        os.utime(tree / name, ns=(STAMP, STAMP))
    before = there.stat().st_ino
    machine.push(tree, "job/work", silent)
    assert content(root / "job/work") == content(tree)
    assert there.stat().st_ino == before, "what the machine has brought is not sent again"


REFUSED = [
    ("/no", "a", "403"),
    ("/a", "../../../a", "leads out"),
    ("/a", "out/a", "leads out"),
    ("/a", "deep/..", "no name of a file"),
]


def test_what_cannot_be_had_is_told_without_its_address(
    over_ssh: Callable[..., SshMachine], server: str, root: Path, tmp_path: Path
) -> None:
    (root / "job").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "job" / "out").symlink_to(tmp_path / "elsewhere")
    machine = over_ssh()
    for path, name, why in REFUSED:
        brought = machine.fetch("job", [source(server, path, name, BODIES["/a"])], silent)
        assert why in brought.why
        assert "X-Amz" not in repr(brought)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not (tmp_path / "a").exists()


class Liar:
    """A courier that answers with whatever it was given."""

    def __init__(self, *said: object) -> None:
        self._said = list(said)
        self.out = Outgoing(lambda _: None)
        self.incoming = Incoming(lambda _: b"")

    def answer(self, *_: object) -> object:
        return self._said.pop(0)


@pytest.mark.parametrize(
    "said",
    [
        {"broken": [1], "why": ""},
        {"broken": [0, 0], "why": ""},
        {"broken": [True], "why": ""},
        {"broken": "0", "why": ""},
        {"broken": [], "why": 7},
        {"bytes": "many"},
        {},
    ],
)
def test_an_answer_that_makes_no_sense_is_not_believed(server: str, said: object) -> None:
    with pytest.raises(Transient, match="something else"):
        sources.fetch(Liar(said), [source(server, "/a", "a", b"a")], silent)  # type: ignore[arg-type]


def test_an_address_that_a_machine_repeats_is_shown_to_nobody(server: str) -> None:
    wanted = [source(server, "/a", "a", b"a")]
    words = f"cannot open {wanted[0].address}\x1b[2J or {SECRET}"
    brought = sources.fetch(Liar({"bytes": 1 << 70}, {"broken": [], "why": words}), wanted, silent)  # type: ignore[arg-type]
    assert brought.why == "cannot open (an address) or (an address)"
    assert "5ec3e7" not in repr(wanted)
