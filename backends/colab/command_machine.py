"""A runtime that Google's command line started, as a machine: requests by `exec`, blobs by `upload` and `download`.

One look brings the state of the run and what is new of its logs, since each costs a command. The runtime is not
trusted: what it says is checked as whatever comes from an agent in a notebook.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from secrets import token_hex
from threading import RLock
from typing import Any

from backends.base import Gone, Progress, Rejected, RunPhase, RunStatus, Transient
from backends.channels.records import checked_record
from backends.channels.trees import Caps, Meter, explained
from backends.colab.agent.desk import MARK, PIECE
from backends.colab.agent.trees import Blob, as_rows, digest_of
from backends.colab.agent.work import LOGS
from backends.colab.arrivals import checked_listing, incoming_folder, packed, received, settled, started
from backends.colab.carrying import DESK, carried
from backends.colab.command import Command
from backends.runner import RUNNER_PATH

REPLY_SECONDS = 1800.0
"""How long something that takes long is asked for again."""
LARGEST_LISTING = 64 << 20
TOP = "content/gpujob"
"""Where everything lies, as `upload` and `download` name it; `exec` begins in /content."""

_CALL = """
import json, os, subprocess, sys
top = os.path.join(os.getcwd(), "gpujob")
tools, bundle = os.path.join(top, "agent", {version!r}), os.path.join(top, "in", "agent-" + {version!r})
os.makedirs(os.path.join(top, "in"), exist_ok=True)
if not os.path.isdir(tools) and os.path.exists(bundle):
    for name, text in json.load(open(bundle)).items():
        path = os.path.join(tools + ".part", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").write(text)
    os.rename(tools + ".part", tools)
    os.unlink(bundle)
if os.path.isdir(tools):
    load = "import sys; sys.path.insert(0, sys.argv[1]); from backends.colab.agent import desk; desk.main(sys.argv[2:])"
    said = subprocess.run([sys.executable, "-I", "-S", "-X", "utf8", "-c", load, tools, top, "ask", {request!r}],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    print(said.stdout if said.stdout else said.stderr[-2000:])
else:
    print({mark!r} + json.dumps({{"tools": False}}))
"""
_KERNELS = """
import os
found = 0
for pid in filter(str.isdecimal, os.listdir("/proc")):
    try:
        words = open("/proc/%s/cmdline" % pid, "rb").read()
    except OSError:
        continue
    found += b"kernel" in words and b".json" in words
left = sorted(set(os.listdir(".")) - {"sample_data", ".config", "gpujob"})
print("gpujob-kernels", found, len(left))
"""


@dataclass
class Talk:
    """What the threads of this process share of one runtime: how far each log was read, and what came with a look."""

    lock: RLock = field(default_factory=RLock)
    read_to: dict[str, dict[str, int]] = field(default_factory=dict)
    ahead: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)


@cache
def _tools() -> dict[str, str]:
    """The agent's files and the runner, by their path below the folder that they are carried to."""
    runner = {"backends/runner/runner.py": RUNNER_PATH.read_text(encoding="utf-8")}
    return carried(DESK) | runner


@cache
def _version() -> str:
    return hashlib.sha256(json.dumps(_tools(), sort_keys=True).encode()).hexdigest()[:16]


class CommandMachine:
    """The runtime ``name``. ``look`` raises Gone once it is over, and else reminds the command of it."""

    def __init__(
        self, command: Command, name: str, talk: Talk, incoming: Path, look: Callable[[], None],
        caps: Caps | None = None,
    ) -> None:  # fmt: skip
        self._command, self._name, self._talk, self._incoming = command, name, talk, incoming
        self._still_there, self._caps = look, caps or Caps()

    def hello(self, seconds: float) -> dict[str, Any]:
        """What is there; from now on the runtime ends itself after ``seconds``."""
        return self._ask({"do": "hello", "seconds": seconds})

    @staticmethod
    def end_command(root: str) -> str:
        """The shell command that ends the runtime from inside; ``root`` is where its desk has told that it lies."""
        program = f"{root}/agent/{_version()}/backends/colab/agent/ending.py"
        return f"exec python3 -I -S '{program}' stop '{root}/desk'"

    @staticmethod
    def is_untouched(command: Command, name: str) -> bool:
        """Whether nobody has begun anything there: no kernel but the one that answers, and no file."""
        return "gpujob-kernels 1 0" in command.execute(name, _KERNELS)

    # --- the verbs ---

    def push(self, tree: Path, dest: str, progress: Progress) -> None:
        """See Machine. Keeps modes; links that stay inside ``tree`` are kept, others Rejected."""
        items, blobs = packed(tree)
        listing = json.dumps(as_rows(items)).encode()
        tree_name = hashlib.sha256(listing).hexdigest()
        wanted = self._lacking([tree_name, *(blob.sha256 for blob in blobs)])
        meter = Meter(sum(blob.size for blob in blobs), progress)
        if tree_name in wanted:
            self._send(tree_name, _pieces_of(listing))
        for blob in blobs:
            if blob.sha256 in wanted:
                self._send(blob.sha256, _pieces(blob))
            meter.done(blob.size)
        settled(self._ask({"do": "push", "dest": dest, "tree": tree_name}), f"put files into {dest}")

    def start(self, job_dir: str, secrets: Mapping[str, str]) -> None:
        """See Machine. Secrets travel in a file that is never one on this disk, and read once there. Raises Rejected
        where the runner refuses, Lost without a reply.
        """
        place = f"secrets-{token_hex(8)}"
        self._upload(json.dumps(dict(secrets)).encode(), f"in/{place}")
        started(lambda: self._ask({"do": "start", "job": job_dir, "secrets": place}))

    def status(self, job_dir: str) -> RunStatus:
        """See Machine. Raises Gone."""
        with self._talk.lock:
            offsets = dict(self._talk.read_to.setdefault(job_dir, dict.fromkeys(LOGS, 0)))
        try:
            reply = self._ask({"do": "look", "job": job_dir, "logs": offsets})
        except Transient:
            self._still_there()
            raise
        settled(reply, "look at the run")
        try:
            found = reply["status"]
            with self._talk.lock:
                for name, offset in offsets.items():
                    self._talk.ahead[job_dir, name] = (offset, base64.b64decode(reply["logs"][name], validate=True))
            return RunStatus(RunPhase(found["phase"]), checked_record(dict(found["record"])))
        except (ValueError, LookupError, TypeError):
            raise Transient("the runtime does not say where the run stands") from None

    def read(self, path: str, offset: int, limit: int = 1 << 20) -> bytes:
        """See Machine. Of logs, what came with the last look; it is asked for where that is not it."""
        job, _, name = path.partition("/")
        if name in LOGS:
            data = self._came_along(job, name, offset)[:limit]
            with self._talk.lock:
                self._talk.read_to.setdefault(job, dict.fromkeys(LOGS, 0))[name] = offset + len(data)
            return data
        return self._read(path, offset, limit)

    def _came_along(self, job: str, name: str, offset: int) -> bytes:
        with self._talk.lock:
            begin, data = self._talk.ahead.get((job, name), (-1, b""))
        if begin <= offset <= begin + len(data) and begin >= 0:
            return data[offset - begin :]
        return self._read(f"{job}/{name}", offset, 1 << 20)

    def _read(self, path: str, offset: int, limit: int) -> bytes:
        reply = self._ask({"do": "read", "path": path, "offset": offset, "limit": limit})
        settled(reply, f"read {path}")
        try:
            return base64.b64decode(reply["bytes"], validate=True)[:limit]
        except (LookupError, ValueError, TypeError):
            raise Transient(f"the runtime does not say what {path} holds") from None

    def pull(self, path: str, dest: Path, progress: Progress) -> bool:
        """See Machine. ``dest`` becomes what ``path`` is; links and the like stay behind, modes are ours."""
        reply = self._ask({"do": "send", "path": path}, progress)
        if reply.get("absent"):
            return False
        settled(reply, f"fetch {path}")
        folder = incoming_folder(self._incoming, path)
        _unpack_small(reply.get("small"), folder)
        items = checked_listing(path, self._listing(path, reply, folder), self._caps)

        def fetch(sha256: str, size: int) -> None:
            self._caps.check(path, 1, size)
            self._fetch(sha256, -(-size // PIECE), folder)

        received(path, items, dest, folder, fetch, progress)
        return True

    def signal(self, job_dir: str, reason: str) -> None:
        """See Machine."""
        settled(self._ask({"do": "signal", "job": job_dir, "reason": reason}), "ask the run to end")

    # --- asking ---

    def _ask(self, request: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """The desk's reply. Raises Transient where none comes; where the runtime is over, reaching it anew says so."""
        request = request | {"n": token_hex(8)}
        end = time.monotonic() + REPLY_SECONDS
        while True:
            try:
                reply = self._asked(request)
            except Transient:
                with suppress(Gone):
                    self._still_there()
                raise
            if reply.get("tools") is False:
                self._carry_tools()
            elif not reply.get("working"):
                return reply
            if time.monotonic() > end:
                raise Transient(f"the runtime did not answer within {REPLY_SECONDS:.0f} s")
            if progress:
                progress(0, 0)

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(request).encode().hex()
        said = self._command.execute(self._name, _CALL.format(version=_version(), request=text, mark=MARK))
        for line in reversed(said.splitlines()):
            if line.startswith(MARK):
                with suppress(ValueError, RecursionError):
                    reply = json.loads(line.removeprefix(MARK))
                    if isinstance(reply, dict):
                        return reply
        raise Transient(f"the runtime gave no reply: {said.strip()[-200:]!r}")

    def _carry_tools(self) -> None:
        self._upload(json.dumps(_tools()).encode(), f"in/agent-{_version()}")

    # --- blobs ---

    def _lacking(self, blobs: list[str]) -> set[str]:
        reply = self._ask({"do": "have", "blobs": blobs})
        settled(reply, "ask what is there already")
        return set(reply.get("lacking", blobs))

    def _send(self, sha256: str, pieces: Iterator[bytes]) -> None:
        for number, piece in enumerate(pieces):
            self._upload(piece, f"in/{sha256}.{number}")

    def _upload(self, data: bytes, name: str) -> None:
        self._command.upload(self._name, data, f"{TOP}/{name}")

    def _fetch(self, sha256: str, pieces: int, folder: Path) -> None:
        """Bring a blob into ``folder``, verified by its name; pieces that have come are not fetched again."""
        place = folder / sha256
        if place.exists():
            return
        parts = [folder / f"{sha256}.{number}" for number in range(pieces)]
        for part in parts:
            if not part.exists():
                draft = part.with_suffix(".part")
                self._command.download(self._name, f"{TOP}/out/{part.name}", draft)
                if draft.stat().st_size > PIECE:
                    raise Rejected(f"the runtime's {part.name[:12]} is larger than a piece can be")
                draft.replace(part)
        with (joining := folder / f"{sha256}.whole").open("wb") as out:
            for part in parts:
                out.write(part.read_bytes())
        for part in parts:
            part.unlink()
        if digest_of(joining) != sha256:
            raise Transient(f"the runtime's blob {sha256[:12]} is not what its name says")
        joining.replace(place)

    def _listing(self, path: str, reply: Mapping[str, Any], folder: Path) -> Any:
        sha256, pieces = reply.get("tree"), reply.get("pieces")
        named = isinstance(sha256, str) and len(sha256) == 64 and set(sha256) <= set("0123456789abcdef")
        if not named or type(pieces) is not int or not 0 < pieces <= LARGEST_LISTING // PIECE:
            raise Rejected(f"the runtime's listing of {path} is none; nothing of it was fetched")
        self._fetch(str(sha256), pieces, folder)
        try:
            return json.loads((folder / str(sha256)).read_bytes())
        except (ValueError, RecursionError):
            return None


def _unpack_small(small: Any, folder: Path) -> None:
    """The blobs that came in the reply, each under its name if that is true of it; others are fetched."""
    for sha256, text in small.items() if isinstance(small, dict) else ():
        with suppress(ValueError, TypeError):
            data = base64.b64decode(text, validate=True)
            if hashlib.sha256(data).hexdigest() == sha256:
                (folder / sha256).write_bytes(data)


def _pieces_of(data: bytes) -> Iterator[bytes]:
    """At least one, so that an empty blob arrives as well."""
    return (data[at : at + PIECE] for at in range(0, max(1, len(data)), PIECE))


def _pieces(blob: Blob) -> Iterator[bytes]:
    """A blob as it is sent. Raises Transient where a file has changed; what arrives is checked by its name as well."""
    if len(blob.paths) > 1 or not blob.size:
        data = blob.data()
        if data is None:
            raise Transient("a file changed while it was sent")
        yield from _pieces_of(data)
        return
    with explained(f"read {blob.paths[0]}"), blob.paths[0].open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
