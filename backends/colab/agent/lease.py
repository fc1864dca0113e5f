"""One lease, as the agent in the notebook serves it: requests are read from the lease's folder, carried out in order,
answered there.

Two files are written here: ``state.json`` (what is done, replies, how runs stand) and the pieces of logs; and blobs
named by their content. ``requests.json`` is the other side's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backends.colab.agent.drive import CHUNK, Absent, Drive, DriveError, Full
from backends.colab.agent.keeping import Keeping
from backends.colab.agent.models import PLACE, cache_settings
from backends.colab.agent.seal import NotOurs, unseal
from backends.colab.agent.trees import Blob, Changed
from backends.colab.agent.work import LOGS, Refusal, Work

PIECE = 1 << 20
"""Bytes of a log in one file: the last piece grows, those before are never written again."""
KEPT_REPLIES = 50


class MailedBlobs:
    """Blobs as files of the lease's folder on Drive."""

    def __init__(self, drive: Drive, folder: str, root: Path) -> None:
        self._drive, self._folder, self._place = drive, folder, root / ".blobs"
        self._there: set[str] = set()
        self._of: dict[str, set[str]] = {}

    def got(self, sha256: str) -> Path:
        """See Blobs. Raises DriveError while it does not show."""
        place = self._place / sha256
        if not place.exists():
            name = f"in-{sha256}"
            file = self._drive.files(self._folder, name).get(name)
            if file is None:
                raise DriveError(f"{name} is not there yet")
            place.parent.mkdir(exist_ok=True)
            self._drive.fetch(file, place, sha256)
        return place

    def sent(self, blob: Blob) -> bool:
        """See Blobs."""
        if blob.sha256 in self._there:
            return True
        name = f"out-{blob.sha256}"
        if blob.size > CHUNK:
            if not self._drive.write_file(self._folder, name, blob.paths[0], blob.sha256):
                return False
        elif (data := blob.data()) is None:
            return False
        else:
            self._drive.write(self._folder, name, data)
        self._there.add(blob.sha256)
        return True

    def sent_bytes(self, data: bytes) -> str:
        """See Blobs."""
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._there:
            self._drive.write(self._folder, f"out-{sha256}", data)
            self._there.add(sha256)
        return sha256

    def keep(self, path: str, blobs: set[str]) -> None:
        """See Blobs. Checkpoints would fill the user's Drive."""
        old, self._of[path] = self._of.get(path, set()), blobs
        for sha256 in old - set().union(*self._of.values()):
            self._drive.remove(self._folder, f"out-{sha256}")
            self._there.discard(sha256)

    def forget_received(self) -> None:
        """What came from home is where it belongs."""
        shutil.rmtree(self._place, ignore_errors=True)


class LeaseWork:
    """The work of one lease in ``root``, a folder of its own."""

    def __init__(self, drive: Drive, folder: str, root: Path, refresh_token: str, nonce: str) -> None:
        self._drive, self._folder, self._token = drive, folder, refresh_token
        self._blobs = MailedBlobs(drive, folder, root)
        settings = cache_settings(os.environ.get(PLACE, ""), root)
        self._work = Work(root, self._blobs, settings)
        self._jobs: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._state: dict[str, Any] = {"nonce": nonce, "done": 0}
        self._state.update({name: {} for name in ("replies", "jobs", "logs", "kept", "whole")})
        self._keeping: dict[str, Keeping] = {}
        self._told = ""
        self._requests_seen: str | None = None
        root.mkdir(parents=True, exist_ok=True)

    def turn(self) -> None:
        """Carry out what was asked since, and show how it stands. Raises DriveError; called again it goes on."""
        version, requests = self._requests()
        for request in requests:
            self._state["replies"][str(request["n"])] = self._carried_out(request)
            self._state["done"] = request["n"]
            self._show()
        self._requests_seen = version
        self._show()
        self._keep()

    def end(self, reason: str) -> None:
        """End what runs, and remove everything."""
        self.kill(reason)
        self._work.remove()

    def kill(self, reason: str) -> None:
        """End what runs, without Drive."""
        for job in self._jobs:
            self._work.kill(job, reason)

    # --- requests ---

    def _requests(self) -> tuple[str | None, list[dict[str, Any]]]:
        """The version of the requests, and those that are still to be carried out."""
        file = self._drive.files(self._folder, "requests.json").get("requests.json")
        version = file.get("md5Checksum") if file else None
        if file is None or version == self._requests_seen:
            return version, []
        asked = json.loads(self._drive.read(file))["requests"]
        return version, [request for request in asked if request["n"] > self._state["done"]]

    def _carried_out(self, request: dict[str, Any]) -> dict[str, Any]:
        verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "push": self._push, "start": self._start, "signal": self._signal, "send": self._send, "read": self._read,
        }  # fmt: skip
        try:
            return verbs[request["do"]](request)
        except (Refusal, NotOurs) as error:
            return {"refused": str(error)}
        except (OSError, Changed) as error:
            return {"failed": f"{type(error).__name__}: {error}", "errno": getattr(error, "errno", None)}

    def _push(self, request: dict[str, Any]) -> dict[str, Any]:
        self._work.push(request["dest"], request["tree"])
        self._blobs.forget_received()
        return {}

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        job, program = request["job"], self._work.root / ".runner" / request["runner"] / "runner.py"
        secrets = unseal(request["sealed"], self._token, job)
        if not program.exists():
            program.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._blobs.got(request["runner"]), program)
        self._work.start(job, secrets, program)
        self._jobs.add(job)
        self._keeping.setdefault(job, Keeping.asked_for_in(self._work.inside(job)))
        return {}

    def _signal(self, request: dict[str, Any]) -> dict[str, Any]:
        self._work.signal(request["job"], request["reason"])
        return {}

    def _send(self, request: dict[str, Any]) -> dict[str, Any]:
        listing = self._work.send(request["path"])
        return {"absent": True} if listing is None else {"tree": listing}

    def _read(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"bytes": self._work.read(request["path"], request["offset"], request["limit"]).hex()}

    # --- keeping ---

    def _keep(self) -> None:
        """Bring results and checkpoints to Drive unasked: the runtime may vanish while home is asleep."""
        for job, keeping in self._keeping.items():
            over = self._state["jobs"][job]["phase"] in ("ended", "lost")
            if keeping.is_due(over=over):
                brought = [self._bring(f"{job}/work/{path}") for path in keeping.paths]
                self._state["whole"][job] = over and all(brought)
                keeping.tried(whole=self._state["whole"][job])
                self._show()

    def _bring(self, path: str) -> bool:
        """Whether ``path`` is on Drive as it is here; else what was brought before stays, and it is tried again."""
        try:
            listing = self._work.send(path)
        except (OSError, Changed, Refusal, Full):
            return False
        if listing is not None:
            self._state["kept"][path] = listing
        return True

    # --- showing ---

    def _show(self) -> None:
        """Bring logs and the state into the folder, as far as they have changed."""
        for job in self._jobs:
            found = self._work.status(job)
            logs = {name: self._mirror(job, name) for name in LOGS}
            self._state["jobs"][job], self._state["logs"][job] = found, logs
        replies = self._state["replies"]
        for number in sorted(replies, key=int)[:-KEPT_REPLIES]:
            del replies[number]
        text = json.dumps(self._state)
        if text != self._told:
            self._drive.write(self._folder, "state.json", text.encode())
            self._told = text

    def _mirror(self, job: str, name: str) -> int:
        """Write what is new of a log into its pieces; the bytes that are there."""
        path, label = self._work.inside(job) / name, f"{job}/{name}"
        done = self._sizes.get(label, 0)
        size = path.stat().st_size if path.exists() else 0
        while done < size:
            number = done // PIECE
            with path.open("rb") as file:
                file.seek(number * PIECE)
                data = file.read(PIECE)
            self._drive.write(self._folder, f"log-{name}-{number}", data)
            done = self._sizes[label] = number * PIECE + len(data)
        return done


def still_there(drive: Drive, folder: str) -> bool:
    """Whether the lease's folder exists; True while Drive cannot be asked."""
    try:
        return drive.exists(folder)
    except Absent:
        return False
    except DriveError:
        return True
