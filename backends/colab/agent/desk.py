"""The desk in a runtime, to which Google's command line brings requests: each is a short process with a line of reply.

Nothing stays in memory between two of them: whatever a request left is in files below ``top``. What takes long is done
by a process of its own, and asked for again until it is done, since a command that is silent for long is cut off.

    top/in, top/out     blobs on their way, in pieces, by the SHA-256 of the whole
    top/desk            requests under way and their replies
    top/jobs            the place for jobs
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from backends.colab.agent.ending import ADDRESS, Guard
from backends.colab.agent.hardware import seen
from backends.colab.agent.trees import Blob, Changed, digest_of
from backends.colab.agent.work import LOGS, READ_BYTES, Refusal, Work

MARK = "gpujob-desk "
"""Begins the line of the reply."""
PIECE = 8 << 20
"""Bytes of a blob in one file: the command line holds a whole file in memory, in base64."""
INLINE = 64 << 10
"""Bytes of blobs that travel in a reply."""
WAIT_SECONDS = 8.0
"""How long a reply is waited for before it is said that the work goes on."""

Reply = dict[str, Any]


class DeskBlobs:
    """Blobs as pieces in two folders, which the command line fills and empties."""

    def __init__(self, top: Path) -> None:
        self._in, self._out = top / "in", top / "out"
        self._kept = top / "desk" / "kept.json"

    def got(self, sha256: str) -> Path:
        """See Blobs. Raises OSError where it is not whole."""
        whole = self._in / sha256
        if not whole.exists() and not self.joined(sha256):
            raise OSError(f"the blob {sha256[:12]} is not whole")
        return whole

    def joined(self, sha256: str) -> bool:
        """Make a blob of its pieces; whether it is whole now."""
        whole, part = self._in / sha256, self._in / f"{sha256}-joining"
        if whole.exists():
            return True
        pieces = sorted(self._in.glob(f"{sha256}.*"), key=lambda path: int(path.suffix[1:]))
        with part.open("wb") as out:
            for piece in pieces:
                with piece.open("rb") as file:
                    shutil.copyfileobj(file, out, 1 << 20)
        if not pieces or digest_of(part) != sha256:
            part.unlink()
            return False
        part.replace(whole)
        for piece in pieces:
            piece.unlink()
        return True

    def sent(self, blob: Blob) -> bool:
        """See Blobs."""
        if (self._out / blob.sha256).exists():
            return True
        if len(blob.paths) > 1:
            data = blob.data()
            return data is not None and self._write(blob.sha256, [data])
        try:
            with blob.paths[0].open("rb") as file:
                return self._write(blob.sha256, iter(lambda: file.read(PIECE), b""))
        except FileNotFoundError:  # gone since it was listed
            return False

    def sent_bytes(self, data: bytes) -> str:
        """See Blobs."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._write(sha256, (data[at : at + PIECE] for at in range(0, len(data), PIECE)))
        return sha256

    def pieces(self, sha256: str) -> int:
        """How many a blob consists of that was sent."""
        return int((self._out / sha256).read_text())

    def small(self, path: str) -> dict[str, str]:
        """Those blobs of ``path`` that fit into the reply, in base64: each other one takes a command to fetch."""
        found, room = {}, INLINE
        for sha256 in self._all_kept().get(path, ()):
            first = self._out / f"{sha256}.0"
            if self.pieces(sha256) == 1 and first.stat().st_size <= room:
                room -= first.stat().st_size
                found[sha256] = base64.b64encode(first.read_bytes()).decode()
        return found

    def _all_kept(self) -> dict[str, list[str]]:
        return dict(json.loads(self._kept.read_text())) if self._kept.exists() else {}

    def keep(self, path: str, blobs: set[str]) -> None:
        """See Blobs. Old checkpoints would fill the disk."""
        kept = self._all_kept()
        old, kept[path] = set(kept.get(path, ())), sorted(blobs)
        for sha256 in old - {each for every in kept.values() for each in every}:
            self._drop(sha256)
        draft = self._kept.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(kept))
        draft.replace(self._kept)

    def forget_received(self) -> None:
        """What came from home is where it belongs."""
        for path in self._in.iterdir():
            path.unlink(missing_ok=True)

    def _write(self, sha256: str, chunks: Iterable[bytes]) -> bool:
        """A piece for each chunk, and then their number: the mark that it is whole. False where it is another one."""
        digest, number = hashlib.sha256(), 0
        for chunk in chunks:
            (self._out / f"{sha256}.{number}").write_bytes(chunk)
            digest.update(chunk)
            number += 1
        if digest.hexdigest() != sha256:
            self._drop(sha256)
            return False
        (self._out / sha256).write_text(str(number))
        return True

    def _drop(self, sha256: str) -> None:
        for path in (self._out / sha256, *self._out.glob(f"{sha256}.*")):
            path.unlink(missing_ok=True)


class Desk:
    """Answers requests. ``top`` is an absolute path that never changes in the life of a runtime."""

    def __init__(self, top: Path) -> None:
        self._top, self._desk = top, top / "desk"
        for name in ("in", "out", "desk", "jobs"):
            (top / name).mkdir(parents=True, exist_ok=True)
        self._blobs = DeskBlobs(top)
        self._work = Work(top / "jobs", self._blobs)
        self._runner = Path(__file__).parents[2] / "runner" / "runner.py"
        self._quick: dict[str, Callable[[Reply], Reply]] = {
            "hello": self._hello, "look": self._look, "read": self._read, "signal": self._signal,
        }  # fmt: skip
        self._slow: dict[str, Callable[[Reply], Reply]] = {
            "have": self._have, "push": self._push, "start": self._start, "send": self._send,
        }  # fmt: skip

    def answer(self, request: Reply) -> Reply:
        """The reply, or that the work goes on: then it is asked again, under the same number."""
        (self._desk / "asked").touch()
        if request["do"] in self._quick:
            return self._carried_out(self._quick[request["do"]], request)
        return self._begun(str(request["n"]), request)

    def serve(self, number: str) -> None:
        """The process that does what takes long."""
        with (self._desk / f"{number}.lock").open("w") as lock, contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            request = json.loads((self._desk / f"{number}.request").read_text())
            reply = self._carried_out(self._slow[request["do"]], request)
            draft = self._desk / f"{number}.draft"
            draft.write_text(json.dumps(reply))
            draft.replace(self._desk / f"{number}.reply")

    def _begun(self, number: str, request: Reply) -> Reply:
        """Begin it unless it is under way, and wait a little."""
        reply = self._desk / f"{number}.reply"
        if not reply.exists() and not self._is_under_way(number):
            (self._desk / f"{number}.request").write_text(json.dumps(request))
            command = [*_PROGRAM, str(Path(__file__).parents[3]), str(self._top), "serve", number]
            quiet = subprocess.DEVNULL
            subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        end = time.monotonic() + WAIT_SECONDS
        while not reply.exists():
            if time.monotonic() > end:
                return {"working": True}
            time.sleep(0.05)
        return dict(json.loads(reply.read_text()))

    def _is_under_way(self, number: str) -> bool:
        with (self._desk / f"{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def _carried_out(self, verb: Callable[[Reply], Reply], request: Reply) -> Reply:
        try:
            return verb(request)
        except Refusal as error:
            return {"refused": str(error)}
        except (OSError, Changed) as error:
            return {"failed": f"{type(error).__name__}: {error}", "errno": getattr(error, "errno", None)}

    # --- verbs ---

    def _hello(self, request: Reply) -> Reply:
        """What is here; and from now on it ends itself in time, or it says that it has no means to."""
        address = os.environ.get(ADDRESS, "")
        if address:
            guard = Guard(self._desk)
            guard.set(float(request["seconds"]), address)
            guard.launch()
        return seen(self._top) | {"root": str(self._top), "ends_itself": bool(address)}

    def _have(self, request: Reply) -> Reply:
        return {"lacking": [sha256 for sha256 in request["blobs"] if not self._blobs.joined(sha256)]}

    def _push(self, request: Reply) -> Reply:
        self._work.push(request["dest"], request["tree"])
        return {}

    def _start(self, request: Reply) -> Reply:
        sealed = self._top / "in" / request["secrets"]
        try:
            secrets = json.loads(sealed.read_text())
        finally:
            sealed.unlink(missing_ok=True)
        self._work.start(request["job"], secrets, self._runner)
        (self._desk / "started").touch()
        self._blobs.forget_received()
        return {}

    def _look(self, request: Reply) -> Reply:
        """Where the run stands, and what is new of its logs."""
        self._work.use(self._runner)
        job = request["job"]
        logs = {
            name: base64.b64encode(self._work.read(f"{job}/{name}", int(offset), READ_BYTES)).decode()
            for name, offset in request["logs"].items()
            if name in LOGS
        }
        return {"status": self._work.status(job), "logs": logs}

    def _read(self, request: Reply) -> Reply:
        data = self._work.read(request["path"], request["offset"], request["limit"])
        return {"bytes": base64.b64encode(data).decode()}

    def _signal(self, request: Reply) -> Reply:
        self._work.use(self._runner)
        self._work.signal(request["job"], request["reason"])
        return {}

    def _send(self, request: Reply) -> Reply:
        listing = self._work.send(request["path"])
        if listing is None:
            return {"absent": True}
        return {"tree": listing, "pieces": self._blobs.pieces(listing), "small": self._blobs.small(request["path"])}


_PROGRAM = (
    sys.executable, "-I", "-S", "-X", "utf8", "-c",
    "import sys; sys.path.insert(0, sys.argv[1]); from backends.colab.agent import desk; desk.main(sys.argv[2:])",
)  # fmt: skip
"""How it is started, followed by the folder of the agent's files and what :func:`main` takes."""


def main(words: list[str]) -> None:
    """``TOP ask REQUEST`` (JSON in hexadecimal) prints the reply; ``TOP serve NUMBER`` works."""
    top, verb, what = Path(words[0]), words[1], words[2]
    if verb == "serve":
        Desk(top).serve(what)
    else:
        print(MARK + json.dumps(Desk(top).answer(json.loads(bytes.fromhex(what)))), flush=True)
