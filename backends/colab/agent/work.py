"""What is done in a runtime for one lease, whoever brings the requests and however blobs travel."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from backends.colab.agent.trees import Blob, Changed, Item, as_rows, pack, unpack

LOGS = ("setup.log", "stdout.log", "stderr.log")
READ_BYTES = 64 << 10
START_SECONDS = 120.0
PACK_TRIES = 5


class Refusal(Exception):
    """The request cannot be carried out, now or later; the text says why."""


class Blobs(Protocol):
    """How blobs come from home and go there."""

    def got(self, sha256: str) -> Path:
        """A file with the bytes of a blob from home."""

    def sent(self, blob: Blob) -> bool:
        """Bring a blob to where home finds it, unless it is there; False where its files have changed."""

    def sent_bytes(self, data: bytes) -> str:
        """The same of bytes; their SHA-256."""

    def keep(self, path: str, blobs: set[str]) -> None:
        """These are what ``path`` consists of now: what it consisted of before is no longer needed."""


class Work:
    """The jobs below ``root``, each in a folder that bears its key; ``settings`` join the environment of their runs."""

    def __init__(self, root: Path, blobs: Blobs, settings: Mapping[str, str] | None = None) -> None:
        self.root, self._blobs, self._settings = root, blobs, dict(settings or {})
        self._runner: ModuleType | None = None

    def push(self, dest: str, tree: str) -> None:
        """Make ``dest`` hold the tree whose listing is the blob ``tree``."""
        items = [Item(*row) for row in json.loads(self._blobs.got(tree).read_bytes())]
        unpack(self.inside(dest), items, self._blobs.got, modes=True)

    def use(self, program: Path) -> None:
        """The runner that is asked from now on."""
        spec = importlib.util.spec_from_file_location("gpujob_runner", program)
        assert spec
        assert spec.loader
        self._runner = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._runner)

    def start(self, job: str, secrets: dict[str, str], program: Path) -> None:
        """Start the runner on ``job``. Starting twice is harmless. Raises Refusal with what the runner says."""
        self.use(program)
        command = [sys.executable, "-I", "-S", str(program), "start", str(self.inside(job))]
        done = subprocess.run(
            command, input=json.dumps(secrets).encode(), capture_output=True, timeout=START_SECONDS, check=False,
            env={name: value for name, value in os.environ.items() if not name.startswith("GPUJOB_")} | self._settings,
        )  # fmt: skip
        if done.returncode:
            raise Refusal((done.stdout or done.stderr).decode(errors="replace").strip()[:2000])

    def status(self, job: str) -> dict[str, Any]:
        """Where the run stands."""
        assert self._runner
        return dict(self._runner.read_status(str(self.inside(job))))

    def signal(self, job: str, reason: str) -> None:
        """Ask the run to end."""
        if self._runner and self.inside(job).is_dir():
            self._runner.request_stop(str(self.inside(job)), reason)

    def kill(self, job: str, reason: str) -> None:
        """End the run and all that it started."""
        if self._runner:
            self._runner.request_stop(str(self.inside(job)), reason)
            for _ in range(100):
                if not self._runner.sweep(str(self.inside(job)), job):
                    break
                time.sleep(0.1)

    def send(self, path: str) -> str | None:
        """Bring what ``path`` is to where home finds it; its listing's name, None where it is absent. Raises Changed
        where it is written to all the time.
        """
        top = self.within_job(path)
        if not top.exists():
            return None
        for tries_left in reversed(range(PACK_TRIES)):
            try:
                items, blobs = pack(top)
            except Changed:
                if not tries_left:
                    raise
            else:
                if all(self._blobs.sent(blob) for blob in blobs):
                    break
            time.sleep(0.2)
        else:
            raise Changed(path)
        listing = self._blobs.sent_bytes(json.dumps(as_rows(items)).encode())
        self._blobs.keep(path, {listing, *(blob.sha256 for blob in blobs)})
        return listing

    def read(self, path: str, offset: int, limit: int) -> bytes:
        """Up to ``limit`` bytes of a file, and not more than one reply holds; empty where there is nothing yet."""
        try:
            with self.within_job(path).open("rb") as file:
                file.seek(offset)
                return file.read(min(limit, READ_BYTES))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return b""

    def remove(self) -> None:
        """Nothing of it stays."""
        shutil.rmtree(self.root, ignore_errors=True)

    def inside(self, path: str) -> Path:
        """The place of ``path``. Raises Refusal where it leads out."""
        found = (self.root / path).resolve()
        if not found.is_relative_to(self.root.resolve()):
            raise Refusal(f"{path} leads out of the place for jobs")
        return found

    def within_job(self, path: str) -> Path:
        """The same, and links do not lead out of the job directory that ``path`` is written in."""
        found, job = self.inside(path), self.inside(path.split("/", 1)[0])
        if not found.is_relative_to(job):
            raise Refusal(f"{path} leads out of its job directory")
        return found
