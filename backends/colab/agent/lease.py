"""One lease, as the agent serves it: requests are read from the lease's folder, carried out in order, answered there.

Two files are written here: ``state.json`` (what is done, replies, how runs stand) and the pieces of logs; and blobs
named by their content. ``requests.json`` is the other side's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from backends.colab.agent.drive import CHUNK, Absent, Drive, DriveError
from backends.colab.agent.seal import NotOurs, unseal
from backends.colab.agent.trees import Blob, Changed, Item, as_rows, pack, unpack

LOGS = ("setup.log", "stdout.log", "stderr.log")
PIECE = 1 << 20
"""Bytes of a log in one file: the last piece grows, those before are never written again."""
READ_BYTES = 64 << 10
START_SECONDS = 120.0
PACK_TRIES = 5
KEPT_REPLIES = 50


class Refusal(Exception):
    """The request cannot be carried out, now or later; the text says why."""


class LeaseWork:
    """The work of one lease in ``root``, a folder of its own."""

    def __init__(self, drive: Drive, folder: str, root: Path, refresh_token: str, nonce: str) -> None:
        self._drive, self._folder, self._root, self._token = drive, folder, root, refresh_token
        self._jobs: set[str] = set()
        self._runner: ModuleType | None = None
        self._blobs: set[str] = set()
        self._blobs_of: dict[str, set[str]] = {}
        self._sizes: dict[str, int] = {}
        self._state: dict[str, Any] = {"nonce": nonce, "done": 0, "replies": {}, "jobs": {}, "logs": {}}
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

    def end(self, reason: str) -> None:
        """End what runs, and remove everything."""
        self.kill(reason)
        shutil.rmtree(self._root, ignore_errors=True)

    def kill(self, reason: str) -> None:
        """End what runs, without Drive."""
        for job in self._jobs:
            if self._runner:
                self._runner.request_stop(str(self._place(job)), reason)
                for _ in range(100):
                    if not self._runner.sweep(str(self._place(job)), job):
                        break
                    time.sleep(0.1)

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
        items = [Item(*row) for row in json.loads(self._got(request["tree"]).read_bytes())]
        unpack(self._inside(request["dest"]), items, self._got, modes=True)
        shutil.rmtree(self._root / ".blobs", ignore_errors=True)
        return {}

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        job, program = request["job"], self._root / ".runner" / request["runner"] / "runner.py"
        secrets = unseal(request["sealed"], self._token, job)
        if not program.exists():
            program.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._got(request["runner"]), program)
        self._load(program)
        command = [sys.executable, "-I", "-S", str(program), "start", str(self._place(job))]
        done = subprocess.run(
            command, input=json.dumps(secrets).encode(), capture_output=True, timeout=START_SECONDS, check=False,
            env={name: value for name, value in os.environ.items() if not name.startswith("GPUJOB_")},
        )  # fmt: skip
        if done.returncode:
            raise Refusal((done.stdout or done.stderr).decode(errors="replace").strip()[:2000])
        self._jobs.add(job)
        return {}

    def _signal(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._runner and self._place(request["job"]).is_dir():
            self._runner.request_stop(str(self._place(request["job"])), request["reason"])
        return {}

    def _send(self, request: dict[str, Any]) -> dict[str, Any]:
        top = self._within_job(request["path"])
        if not top.exists():
            return {"absent": True}
        for tries_left in reversed(range(PACK_TRIES)):
            try:
                items, blobs = pack(top)
            except Changed:
                if not tries_left:
                    raise
            else:
                if all(self._sent(blob) for blob in blobs):
                    break
            time.sleep(0.2)
        else:
            raise Changed(request["path"])
        listing = self._sent_bytes(json.dumps(as_rows(items)).encode())
        self._keep(request["path"], {listing, *(blob.sha256 for blob in blobs)})
        return {"tree": listing}

    def _read(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            with self._within_job(request["path"]).open("rb") as file:
                file.seek(request["offset"])
                return {"bytes": file.read(min(request["limit"], READ_BYTES)).hex()}
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return {"bytes": ""}

    # --- blobs ---

    def _got(self, sha256: str) -> Path:
        """A file with the bytes of a blob from the other side."""
        place = self._root / ".blobs" / sha256
        if not place.exists():
            name = f"in-{sha256}"
            file = self._drive.files(self._folder, name).get(name)
            if file is None:
                raise DriveError(f"{name} is not there yet")
            place.parent.mkdir(exist_ok=True)
            self._drive.fetch(file, place, sha256)
        return place

    def _sent(self, blob: Blob) -> bool:
        """Put a blob into the folder, unless it is there; False where its files have changed."""
        if blob.sha256 in self._blobs:
            return True
        name = f"out-{blob.sha256}"
        if blob.size > CHUNK:
            if not self._drive.write_file(self._folder, name, blob.paths[0], blob.sha256):
                return False
        elif (data := blob.data()) is None:
            return False
        else:
            self._drive.write(self._folder, name, data)
        self._blobs.add(blob.sha256)
        return True

    def _keep(self, path: str, blobs: set[str]) -> None:
        """Only the newest of each path stays: checkpoints would fill the user's Drive."""
        old, self._blobs_of[path] = self._blobs_of.get(path, set()), blobs
        for sha256 in old - set().union(*self._blobs_of.values()):
            self._drive.remove(self._folder, f"out-{sha256}")
            self._blobs.discard(sha256)

    def _sent_bytes(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._blobs:
            self._drive.write(self._folder, f"out-{sha256}", data)
            self._blobs.add(sha256)
        return sha256

    # --- showing ---

    def _show(self) -> None:
        """Bring logs and the state into the folder, as far as they have changed."""
        for job in self._jobs:
            found = self._status(job)
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
        path, label = self._place(job) / name, f"{job}/{name}"
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

    def _status(self, job: str) -> dict[str, Any]:
        assert self._runner
        return dict(self._runner.read_status(str(self._place(job))))

    def _load(self, program: Path) -> None:
        spec = importlib.util.spec_from_file_location("gpujob_runner", program)
        assert spec
        assert spec.loader
        self._runner = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._runner)

    # --- paths ---

    def _place(self, job: str) -> Path:
        return self._inside(job)

    def _inside(self, path: str) -> Path:
        found = (self._root / path).resolve()
        if not found.is_relative_to(self._root.resolve()):
            raise Refusal(f"{path} leads out of the place for jobs")
        return found

    def _within_job(self, path: str) -> Path:
        """The same, and links do not lead out of the job directory that ``path`` is written in."""
        found, job = self._inside(path), self._inside(path.split("/", 1)[0])
        if not found.is_relative_to(job):
            raise Refusal(f"{path} leads out of its job directory")
        return found


def still_there(drive: Drive, folder: str) -> bool:
    """Whether the lease's folder exists; True while Drive cannot be asked."""
    try:
        return drive.exists(folder)
    except Absent:
        return False
    except DriveError:
        return True
