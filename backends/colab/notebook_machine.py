"""A Colab session as a machine: requests and blobs go into the lease's folder, replies and blobs come out of it.

Two files of the folder are written here, ``requests.json`` and blobs ``in-<SHA-256>``; everything else is the agent's,
and not trusted. A verb waits for its reply as any channel does; where none comes it raises Transient.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

from backends.base import Gone, Progress, Rejected, RunPhase, RunStatus, Transient
from backends.channels.drive_replies import Entry
from backends.channels.records import checked_record
from backends.channels.trees import Caps, Meter, explained
from backends.colab.agent.lease import PIECE
from backends.colab.agent.seal import seal
from backends.colab.agent.trees import Blob, as_rows
from backends.colab.agent.work import LOGS
from backends.colab.arrivals import checked_listing, incoming_folder, packed, received, settled, started
from backends.colab.post import Post
from backends.colab.records import Records
from backends.runner import RUNNER_PATH

REPLY_SECONDS = 180.0
"""How long a reply is waited for in one call; a large tree is waited for longer, as its blobs arrive."""


@dataclass
class Talk:
    """What the threads of this process share of one lease: requests under way, and what was seen last."""

    lock: RLock = field(default_factory=RLock)
    pending: dict[int, dict[str, Any]] = field(default_factory=dict)
    state: tuple[str | None, dict[str, Any]] = (None, {})
    pieces: dict[str, tuple[str | None, bytes]] = field(default_factory=dict)
    listed: tuple[float, dict[str, Entry]] = (float("-inf"), {})


class NotebookMachine:
    """The session that serves ``key``. ``check`` raises Gone once it is over, whatever its files still say; ``secret``
    gives the refresh token that both ends share.
    """

    def __init__(
        self, post: Post, records: Records, talk: Talk, key: str, incoming: Path,
        check: Callable[[], None], secret: Callable[[], str], poll: float, caps: Caps | None = None,
    ) -> None:  # fmt: skip
        claim = records.get(key)
        assert claim is not None
        self._post, self._records, self._talk, self._key = post, records, talk, key
        self._folder, self._nonce, self._incoming = claim.folder, claim.nonce, incoming
        self._check, self._secret, self._poll, self._caps = check, secret, poll, caps or Caps()

    # --- the verbs ---

    def push(self, tree: Path, dest: str, progress: Progress) -> None:
        """See Machine. Keeps modes; links that stay inside ``tree`` are kept, others Rejected."""
        items, blobs = packed(tree)
        there = self._files(fresh=True)
        meter = Meter(sum(blob.size for blob in blobs), progress)
        for blob in blobs:
            if f"in-{blob.sha256}" not in there:
                self._put(blob)
            meter.done(blob.size)
        tree_name = self._put_bytes(json.dumps(as_rows(items)).encode())
        settled(self._ask({"do": "push", "dest": dest, "tree": tree_name}), f"put files into {dest}")

    def start(self, job_dir: str, secrets: Mapping[str, str]) -> None:
        """See Machine. Secrets travel sealed. Raises Rejected where the runner refuses, Lost without a reply."""
        sealed = seal(dict(secrets), self._secret(), job_dir)
        runner = self._put_bytes(RUNNER_PATH.read_bytes())
        started(lambda: self._ask({"do": "start", "job": job_dir, "sealed": sealed, "runner": runner}))

    def status(self, job_dir: str) -> RunStatus:
        """See Machine: as the agent told it last. Raises Gone."""
        self._check()
        return self._told(job_dir)

    def _told(self, job_dir: str) -> RunStatus:
        found = self._state()["jobs"].get(job_dir)
        if found is None:
            return RunStatus(RunPhase.ABSENT)
        try:
            return RunStatus(RunPhase(found["phase"]), checked_record(dict(found["record"])))
        except (ValueError, LookupError, TypeError):
            raise Transient("the session does not say where the run stands") from None

    def read(self, path: str, offset: int, limit: int = 1 << 20) -> bytes:
        """See Machine. Logs are there as the agent brings them; other files are asked for."""
        job, _, name = path.partition("/")
        if name in LOGS:
            return self._read_log(job, name, offset, limit)
        reply = self._ask({"do": "read", "path": path, "offset": offset, "limit": limit})
        settled(reply, f"read {path}")
        try:
            return bytes.fromhex(reply["bytes"])[:limit]
        except (LookupError, ValueError, TypeError):
            raise Transient(f"the session does not say what {path} holds") from None

    def pull(self, path: str, dest: Path, progress: Progress) -> bool:
        """See Machine. ``dest`` becomes what ``path`` is; links and the like stay behind, modes are ours."""
        reply = self._ask({"do": "send", "path": path}, progress)
        if reply.get("absent"):
            return False
        settled(reply, f"fetch {path}")
        self._receive(path, reply.get("tree"), dest, progress)
        return True

    def _receive(self, path: str, tree: Any, dest: Path, progress: Progress) -> None:
        """Make ``dest`` what the blob ``tree`` lists."""
        items = checked_listing(path, self._post.json_of(self._blob(tree)), self._caps)
        folder = incoming_folder(self._incoming, path)
        received(path, items, dest, folder, lambda sha256, _: self._fetch(sha256, folder), progress)

    def signal(self, job_dir: str, reason: str) -> None:
        """See Machine. The request lies there for the agent; nobody waits for it."""
        with self._talk.lock:
            same = {"do": "signal", "job": job_dir, "reason": reason}
            if not any({**each, "n": 0} == same | {"n": 0} for each in self._talk.pending.values()):
                self._post_request(same)

    # --- asking ---

    def _ask(self, request: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """The agent's reply. Raises Transient where none comes."""
        number = self._post_request(request)
        end = time.monotonic() + REPLY_SECONDS
        while True:
            state = self._state(fresh=True)
            if state["done"] >= number:
                reply = state["replies"].get(str(number))
                if not isinstance(reply, dict):
                    raise Transient("the session answered, and its answer is gone; asked again")
                return reply
            self._still_there()
            if time.monotonic() > end:
                raise Transient(f"the session did not answer within {REPLY_SECONDS:.0f} s")
            if progress:
                progress(0, 0)
            time.sleep(self._poll / 2)

    def _still_there(self) -> None:
        """Nobody waits for the reply of a session that is over. Raises Transient: reaching it anew says the rest."""
        try:
            self._check()
        except Gone as gone:
            raise Transient(str(gone)) from gone

    def _post_request(self, request: dict[str, Any]) -> int:
        """Number it, remember the number, and put it with all that are under way; its number."""
        with self._talk.lock:
            claim = self._records.get(self._key)
            assert claim is not None
            number = claim.asked + 1
            self._records.change(self._key, asked=number)
            done = self._talk.state[1].get("done", 0)
            self._talk.pending = {n: each for n, each in self._talk.pending.items() if n > done}
            self._talk.pending[number] = request | {"n": number}
            text = json.dumps({"requests": [self._talk.pending[n] for n in sorted(self._talk.pending)]})
            self._post.drive.put_bytes(self._folder, "requests.json", text.encode())
            return number

    # --- what the folder holds ---

    def _files(self, *, fresh: bool = False) -> dict[str, Entry]:
        """The folder's files; a listing is good for half a poll, however many ask."""
        with self._talk.lock:
            at, files = self._talk.listed
            if (fresh and time.monotonic() - at > self._poll / 2) or time.monotonic() - at > self._poll:
                files = self._post.files(self._folder)
                self._talk.listed = (time.monotonic(), files)
            return files

    def _state(self, *, fresh: bool = False) -> dict[str, Any]:
        """What the agent told last; nothing done before it has told anything."""
        with self._talk.lock:
            entry = self._files(fresh=fresh).get("state.json")
            if entry is not None and entry.sha256 != self._talk.state[0]:
                with suppress(Transient):  # written anew since it was listed: the next look sees it
                    told = self._post.json_of(entry)
                    if isinstance(told, dict) and told.get("nonce") == self._nonce and _is_state(told):
                        self._talk.state = (entry.sha256, told)
            return self._talk.state[1] or {"done": 0, "replies": {}, "jobs": {}, "logs": {}, "kept": {}, "whole": {}}

    def _read_log(self, job: str, name: str, offset: int, limit: int) -> bytes:
        sizes = self._state()["logs"].get(job)
        size = sizes.get(name, 0) if isinstance(sizes, dict) else 0
        if not isinstance(size, int) or offset >= size:
            return b""
        entry = self._files().get(f"log-{name}-{offset // PIECE}")
        if entry is None:
            return b""
        begin = offset % PIECE
        return self._piece(entry)[begin : begin + limit]

    def _piece(self, entry: Entry) -> bytes:
        with self._talk.lock:
            sha256, data = self._talk.pieces.get(entry.name, (None, b""))
            if sha256 is None or sha256 != entry.sha256:
                if entry.size > PIECE:
                    raise Rejected(f"{entry.name} is larger than a piece of a log can be")
                with suppress(Transient):  # the same
                    data = self._post.drive.content(entry)
                    self._talk.pieces = {entry.name: (entry.sha256, data)}
            return data

    # --- blobs ---

    def _put(self, blob: Blob) -> None:
        if len(blob.paths) == 1:
            self._post.drive.put_file(self._folder, f"in-{blob.sha256}", blob.paths[0])
        elif (data := blob.data()) is not None:
            self._post.drive.put_bytes(self._folder, f"in-{blob.sha256}", data)
        else:
            raise Transient("a file changed while it was sent")

    def _put_bytes(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if f"in-{sha256}" not in self._files():
            self._post.drive.put_bytes(self._folder, f"in-{sha256}", data)
        return sha256

    def _fetch(self, sha256: str, folder: Path) -> None:
        """Bring a blob into ``folder``, verified by its name."""
        place = folder / sha256
        if not place.exists():
            entry = self._blob(sha256)
            if entry.sha256 != sha256:
                raise Transient(f"the session's {entry.name} is not what its name says")
            self._post.drive.fetch(entry.id, place)

    def _blob(self, sha256: Any) -> Entry:
        for fresh in (False, True):
            if entry := self._files(fresh=fresh).get(f"out-{sha256}"):
                return entry
        raise Transient("what the session has sent does not show on Drive yet")


class Remains(NotebookMachine):
    """What a session that is gone has left on Drive: logs, the last state of the run, and what the agent brought there
    unasked. It can be read; nothing can be asked of it.
    """

    def status(self, job_dir: str) -> RunStatus:
        """See Machine: as it was told last; a run has ended only if all that it left was brought to Drive."""
        told = self._told(job_dir)
        whole = self._state(fresh=True)["whole"].get(job_dir) is True
        return told if whole or not told.over else RunStatus(RunPhase.LOST, told.record)

    def pull(self, path: str, dest: Path, progress: Progress) -> bool:
        """See Machine. False for what was never brought to Drive."""
        job, _, name = path.partition("/")
        if name in LOGS:
            return self._pull_log(job, name, dest)
        tree = self._state(fresh=True)["kept"].get(path)
        if tree is None:
            return False
        self._receive(path, tree, dest, progress)
        return True

    def signal(self, job_dir: str, reason: str) -> None:
        """Nobody is there to be asked."""

    def _pull_log(self, job: str, name: str, dest: Path) -> bool:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with explained(f"write {dest}"), dest.open("wb") as file:
            while data := self._read_log(job, name, file.tell(), PIECE):
                file.write(data)
        return dest.stat().st_size > 0


def _is_state(told: Mapping[str, Any]) -> bool:
    tables = all(isinstance(told.get(name), dict) for name in ("replies", "jobs", "logs", "kept", "whole"))
    return tables and type(told.get("done")) is int
