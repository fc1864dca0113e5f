"""The channel to a machine that is reached over SSH: the runner and the courier, carried there, do the work."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeAlias

from backends.base import Lost, Progress, Rejected, RunPhase, RunStatus, SeenGpu, Transient
from backends.channels import sources, transfer
from backends.channels.records import checked_record
from backends.channels.sources import Brought, Source
from backends.channels.ssh_connection import (
    PULL_WINDOW_BYTES,
    WINDOW_BYTES,
    Interrupted,
    Said,
    SshAddress,
    printable,
    shared_connection,
)
from backends.channels.ssh_keys import HostKeys, Identity
from backends.channels.trees import Caps, Onward
from backends.runner import CARRIED
from backends.runner.parcels import Item

CHUNK = 1 << 20
START_TIMEOUT = 60.0
STATUS_BYTES = 1 << 22
GPU_LIST_BYTES = 1 << 16
MIB = 1 << 20
_LIST_GPUS = "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits 2>/dev/null"
_GPU_LINE = re.compile(r"([^,]{1,80}), *(\d{1,7})", re.ASCII)
PYTHON = "python3 -I -S -X utf8"
PACKAGE = "backends.runner"
"""Where the tools lie in a folder of theirs, so that they find each other there as they do here."""
NO_TOOLS, NO_PYTHON, OLD_PYTHON = 112, 113, 114
"""Exit codes of ours, of a shell that found no tools or no Python, and of a Python before 3.8."""

_INSTALL = """
import sys
if sys.version_info < (3, 8):
    sys.exit(114)
import hashlib, json, os
folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
for name, (text, digest) in json.load(sys.stdin).items():
    data = text.encode()
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(name + " arrived damaged")
    part = os.path.join(folder, name + "." + str(os.getpid()))
    with open(part, "wb") as file:
        file.write(data)
    os.replace(part, os.path.join(folder, name))
"""


class SshMachine:
    """A machine reached over SSH, as a place for jobs below ``root``, an absolute path there.

    ``pin`` names this start of this machine for ``host_keys``. ``profile`` is a shell file there that is sourced before
    everything, if it is there and right. What comes home in one ``pull`` is bounded by ``max_files`` and ``max_bytes``.
    ``ahead`` is called before every ``push`` with what that is called with, and may bring files there on another way.
    Machines of the same pin and address share one connection.
    """

    def __init__(
        self,
        address: SshAddress,
        identity: Identity,
        host_keys: HostKeys,
        pin: str,
        root: str,
        *,
        profile: str | None = None,
        max_files: int = 1_000_000,
        max_bytes: int = 10**12,
        ahead: Ahead | None = None,
    ) -> None:
        self._address = address
        self._connection = shared_connection(address, identity, host_keys, pin)
        self._root = root
        self._profile = profile
        self._caps = Caps(max_files, max_bytes)
        self._ahead = ahead
        self._texts = {path.name: path.read_text(encoding="utf-8") for path in CARRIED}
        version = hashlib.sha256("".join(self._texts.values()).encode()).hexdigest()[:16]
        self._tools = posixpath.join(root, ".gpujob", version)
        self._package = posixpath.join(self._tools, *PACKAGE.split("."))

    def reach(self) -> None:
        """Make sure that the machine can be worked with: connect, look for Python, carry our tools there.

        Raises NotYetReady while it does not answer or does not let us in, Rejected where it cannot serve.
        """
        said = self._connection.run(self._script(self._if_carried()))
        if said.code == NO_TOOLS:
            self._install()
        elif said.code:
            self._cannot_serve(said)

    def push(self, tree: Path, dest: str, progress: Progress) -> None:
        """See Machine. Keeps modes; links that stay inside ``tree`` are kept, others Rejected."""
        if self._ahead:
            progress = Onward(progress)
            self._ahead(self, tree, dest, progress)
        with self._courier("receive", self._inside(dest)) as courier:
            transfer.push(courier, tree, dest, progress)

    def lacking(self, dest: str, files: Sequence[Item]) -> list[Item]:
        """Those of ``files``, by their names below ``dest``, that are not there with the same size, time and mode."""
        with self._courier("lacking", self._inside(dest)) as courier:
            return sources.lacking(courier, files)

    def fetch(self, dest: str, wanted: Sequence[Source], progress: Progress) -> Brought:
        """Let the machine itself bring files to below ``dest``; what it could not is told, and no error."""
        with self._courier("fetch", self._inside(dest)) as courier:
            return sources.fetch(courier, wanted, progress)

    @property
    def received_bytes(self) -> int:
        """See Counted: all of the traffic, also that of logs and of looking how a run stands."""
        return self._connection.received_bytes

    def gpus(self) -> list[SeenGpu]:
        """See Inspected. What cannot be understood of the answer is not believed to be a GPU."""
        said = self._connection.run(self._script(_LIST_GPUS), limit=GPU_LIST_BYTES)
        found = (_GPU_LINE.fullmatch(line.strip()) for line in said.out.decode(errors="replace").splitlines())
        return [SeenGpu(printable(each[1]), int(each[2]) * MIB) for each in found if each]

    def start(self, job_dir: str, secrets: Mapping[str, str]) -> None:
        """See Machine. Raises Rejected where the runner refuses the job, Lost where it does not answer."""
        given = json.dumps(dict(secrets)).encode()
        try:
            said = self._runner(f"start {self._place(job_dir)}", given, patience=START_TIMEOUT)
        except Interrupted as error:
            raise Lost(f"nobody knows whether the run started: {error}") from error
        if said.code == -1:
            raise Lost("the connection ended before the runner answered")
        if said.code:
            raise Rejected(f"the runner refuses the job: {_words(said)}")

    def status(self, job_dir: str) -> RunStatus:
        """See Machine."""
        said = self._runner(f"status {self._place(job_dir)}", limit=STATUS_BYTES)
        try:
            found = json.loads(said.out.splitlines()[-1])
            return RunStatus(RunPhase(found["phase"]), checked_record(dict(found["record"])))
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Transient(f"{self._address} does not say where the run stands: {_words(said)}") from None

    def read(self, path: str, offset: int, limit: int = CHUNK) -> bytes:
        """See Machine."""
        with self._courier("read", self._inside(path), str(offset), str(limit)) as courier:
            return transfer.read(courier, path, limit)

    def pull(self, path: str, dest: Path, progress: Progress) -> bool:
        """See Machine. ``dest`` becomes what ``path`` is: a file's own new path, or the folder's.

        Links, devices and the like stay behind, modes are ours. Complete files are not fetched again, and the
        beginnings of large ones are kept.
        """
        with self._courier("send", self._inside(path), window=PULL_WINDOW_BYTES) as courier:
            return transfer.pull(courier, path, dest, self._caps, progress)

    def signal(self, job_dir: str, reason: str) -> None:
        """See Machine. A run that has not started yet will end as soon as it does."""
        place = self._place(job_dir)
        said = self._runner(f"stop {place} --reason {shlex.quote(reason)}", only_if=f"[ -d {place} ] || exit 0")
        if said.code:
            raise Transient(f"the run in {job_dir} cannot be asked to end: {_words(said)}")

    # reaching the tools

    @contextmanager
    def _courier(self, verb: str, path: str, *words: str, window: int = WINDOW_BYTES) -> Iterator[transfer.Courier]:
        """A courier on the machine that has greeted us; the tools are carried there if they are not."""
        arguments = " ".join(map(shlex.quote, (self._root, verb, path, *words)))
        script = self._script(self._run_tool("courier", arguments))
        for again in (True, False):
            with self._connection.open(script, window) as conversation:
                try:
                    courier = transfer.Courier(conversation)
                except transfer.Silent as silent:
                    if silent.code != NO_TOOLS or not again:
                        self._cannot_serve(Said(silent.code, b"", str(silent).encode(errors="replace")))
                else:
                    yield courier
                    return
            self._install()

    def _runner(
        self, words: str, given: bytes = b"", *, only_if: str = ":", limit: int = CHUNK, patience: float = START_TIMEOUT
    ) -> Said:
        script = self._script(only_if, self._run_tool("runner", words))
        said = self._connection.run(script, given, limit, patience)
        if said.code == NO_TOOLS:
            self._install()
            said = self._connection.run(script, given, limit, patience)
        if said.code in (NO_PYTHON, OLD_PYTHON):
            self._cannot_serve(said)
        return said

    def _run_tool(self, name: str, words: str) -> str:
        """Run a tool: imported, so that Python keeps its compiled form."""
        load = f"from {PACKAGE} import {name}; sys.exit({name}.main(sys.argv[2:]))"
        load = f"import sys; sys.path.insert(0, sys.argv[1]); {load}"
        return f"{self._if_carried()}; exec {PYTHON} -c {shlex.quote(load)} {shlex.quote(self._tools)} {words}"

    def _if_carried(self) -> str:
        there = " && ".join(f"[ -f {name} ]" for name in self._texts)
        return f"(cd {shlex.quote(self._package)} && {there}) 2>/dev/null || exit {NO_TOOLS}"

    def _script(self, *lines: str) -> str:
        """A shell script: the profile in a subshell first, since an error in it would end the shell."""
        profile = shlex.quote(self._profile or "")
        source = [f"if (. {profile}) >/dev/null 2>&1; then . {profile} >/dev/null 2>&1; fi"] if self._profile else []
        python = f"command -v python3 >/dev/null 2>&1 || exit {NO_PYTHON}"
        return "\n".join([*source, "cd /", python, *lines])

    def _install(self) -> None:
        """Carry the tools there. Each is put in its place in one step, so doing it twice at once is harmless."""
        tools = {name: (text, hashlib.sha256(text.encode()).hexdigest()) for name, text in self._texts.items()}
        command = f"exec {PYTHON} -c {shlex.quote(_INSTALL)} {shlex.quote(self._package)}"
        said = self._connection.run(self._script(command), json.dumps(tools).encode())
        if said.code:
            self._cannot_serve(said)

    def _cannot_serve(self, said: Said) -> NoReturn:
        """Raise what follows from a command that failed before our tools could answer."""
        if said.code in (NO_PYTHON, OLD_PYTHON):
            lack = "no python3" if said.code == NO_PYTHON else "a python3 older than 3.8"
            raise Rejected(f"{self._address} has {lack}", advice="use an image with Python 3.8 or newer")
        if b"No space left" in said.err or b"Disk quota" in said.err:
            raise Rejected(f"{self._address} has no room: {_words(said)}", advice="rent a machine with a larger disk")
        raise Transient(f"{self._address} does not run our tools (exit code {said.code}): {_words(said)}")

    # paths

    def _place(self, job_dir: str) -> str:
        return shlex.quote(posixpath.join(self._root, self._inside(job_dir)))

    def _inside(self, path: str) -> str:
        """``path``, which must be relative and stay below the root. Raises Rejected. The courier looks at links."""
        flat = posixpath.normpath(path)
        if flat.startswith(("/", "../")) or flat == ".." or "\x00" in flat:
            raise Rejected(f"{printable(path)} leads out of {self._root}", advice="use a path inside the job directory")
        return flat


Ahead: TypeAlias = Callable[[SshMachine, Path, str, Progress], None]
"""What brings files to a machine before they are pushed: the arguments are the machine's, then those of ``push``."""


def _words(said: Said) -> str:
    """What a program said, for people."""
    return printable((said.out or said.err).decode(errors="replace")) or f"nothing (exit code {said.code})"
