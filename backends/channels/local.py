"""The channel to this very machine: a folder for jobs, and the runner as a process beside us."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath

from backends.base import Lost, NotYetGone, Progress, Rejected, RunPhase, RunStatus, Transient
from backends.channels.trees import Caps, Meter, explained, link_text, not_for_transfer
from backends.failpoints import failpoint
from backends.runner import RUNNER_PATH, runner
from backends.runner.parcels import PART

CHUNK = 1 << 20
START_TIMEOUT = 60.0
RUNNER_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
"""All that the runner gets of our environment, which may hold secrets of other jobs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to transfer, by its path below the top (empty: the top itself)."""

    name: PurePosixPath
    info: os.stat_result


class LocalMachine:
    """This machine, as a place for jobs below ``root``.

    What comes home in one ``pull`` is bounded by ``max_files`` and ``max_bytes``: more is Rejected.
    """

    def __init__(self, root: Path, *, max_files: int = 1_000_000, max_bytes: int = 10**12) -> None:
        self._root = root
        self._caps = Caps(max_files, max_bytes)

    def push(self, tree: Path, dest: str, progress: Progress) -> None:
        """See Machine. Keeps modes; links that stay inside ``tree`` are kept, others Rejected."""
        target = self._inside(dest)
        with explained(f"copy {tree} to {target}"):
            entries = list(_walk(tree))
            meter = Meter(sum(map(_size, entries)), progress)
            target.mkdir(parents=True, exist_ok=True)
            for entry in entries:
                _push_entry(tree, target, entry)
                meter.done(_size(entry))
            _clear(target, entries)

    def start(self, job_dir: str, secrets: Mapping[str, str]) -> None:
        """See Machine. Raises Rejected where the runner refuses the job, Lost where it does not answer."""
        command = [sys.executable, "-I", "-S", str(RUNNER_PATH), "start", str(self._inside(job_dir))]
        environment = {name: os.environ[name] for name in RUNNER_ENVIRONMENT if name in os.environ}
        try:
            done = subprocess.run(
                command,
                input=json.dumps(dict(secrets)).encode(),
                capture_output=True,
                env=environment,
                timeout=START_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Lost(f"the runner did not answer within {START_TIMEOUT:.0f} s") from error
        except OSError as error:
            raise Transient(f"the runner cannot be started: {error}") from error
        if done.returncode:
            said = (done.stdout or done.stderr).decode(errors="replace").strip()
            raise Rejected(f"the runner refuses the job: {said}")

    def status(self, job_dir: str) -> RunStatus:
        """See Machine."""
        found = runner.read_status(str(self._inside(job_dir)))
        return RunStatus(RunPhase(found["phase"]), found["record"])

    def read(self, path: str, offset: int, limit: int = CHUNK) -> bytes:
        """See Machine."""
        try:
            with _open_regular(self._within_job(path)) as file:
                file.seek(offset)
                return file.read(limit)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as error:
            raise Transient(f"{path} cannot be read: {error}") from error

    def pull(self, path: str, dest: Path, progress: Progress) -> bool:
        """See Machine. ``dest`` becomes what ``path`` is: a file's own new path, or the folder's.

        Links, devices and the like stay behind, modes are ours. Complete files are not fetched again.
        """
        source = self._within_job(path)
        if not source.exists():
            return False
        with explained(f"fetch {source} to {dest}"):
            entries = [entry for entry in _walk(source) if _is_plain(entry)]
            total = sum(map(_size, entries))
            self._caps.check(path, len(entries), total)
            meter = Meter(total, progress)
            for entry in entries:
                _pull_entry(source, dest, entry)
                meter.done(_size(entry))
            _clear(dest, entries)
        return True

    def signal(self, job_dir: str, reason: str) -> None:
        """See Machine. A run that has not started yet will end as soon as it does."""
        place = self._inside(job_dir)
        if place.is_dir():
            with explained(f"ask the run in {place} to end"):
                runner.request_stop(str(place), reason)

    def sweep(self, job_dir: str, key: str) -> None:
        """Kill what is left of run ``key`` and remove its control group. NotYetGone: call again."""
        left = runner.sweep(str(self._inside(job_dir)), key)
        if left:
            raise NotYetGone(f"processes of {key} do not die: {left}", advice="look at them with ps")

    def _inside(self, path: str) -> Path:
        """``path`` below the root, links followed. Raises Rejected where it leads out."""
        found = (self._root / path).resolve()
        if not found.is_relative_to(self._root.resolve()):
            raise Rejected(f"{path} leads out of {self._root}", advice="use a path inside the job directory")
        return found

    def _within_job(self, path: str) -> Path:
        """The same, and links do not lead out of the job directory that ``path`` is written in."""
        found = self._inside(path)
        for parent in PurePosixPath(path).parents:
            place = (self._root / parent).resolve()
            if (place / "job.json").is_file() and not found.is_relative_to(place):
                raise Rejected(f"{path} leads out of its job directory", advice="do not link to other places")
        return found


def _size(entry: Entry) -> int:
    return entry.info.st_size if stat.S_ISREG(entry.info.st_mode) else 0


def _is_plain(entry: Entry) -> bool:
    return stat.S_ISREG(entry.info.st_mode) or stat.S_ISDIR(entry.info.st_mode)


def _walk(top: Path) -> Iterator[Entry]:
    """``top`` and all below it, a folder before what it holds, in a stable order. Follows no links."""
    ahead = [PurePosixPath()]
    while ahead:
        name = ahead.pop()
        try:
            info = (top / name).lstat() if name.parts else top.stat()
        except FileNotFoundError:  # gone since it was listed
            continue
        yield Entry(name, info)
        if stat.S_ISDIR(info.st_mode):
            names = sorted(
                (below.name for below in (top / name).iterdir() if not below.name.startswith(PART)), reverse=True
            )
            ahead += [name / below for below in names]


def _push_entry(tree: Path, target: Path, entry: Entry) -> None:
    source, copy, mode = tree / entry.name, target / entry.name, entry.info.st_mode
    if stat.S_ISDIR(mode):
        copy.mkdir(exist_ok=True)
    elif stat.S_ISLNK(mode):
        _push_link(tree, copy, source)
    elif stat.S_ISREG(mode):
        _copy(source, copy, entry.info, "push:file", mode=stat.S_IMODE(mode) & 0o777)
    else:
        raise not_for_transfer(source)


def _push_link(tree: Path, copy: Path, source: Path) -> None:
    text = link_text(tree, source)
    if copy.is_symlink() and str(copy.readlink()) == text:
        return
    part = copy.with_name(PART)
    part.unlink(missing_ok=True)
    part.symlink_to(text)
    part.replace(copy)


def _pull_entry(source: Path, dest: Path, entry: Entry) -> None:
    copy = dest / entry.name
    if stat.S_ISDIR(entry.info.st_mode):
        copy.mkdir(parents=True, exist_ok=True)
        return
    copy.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # gone since it was listed: the job may still be at work
        _copy(source / entry.name, copy, entry.info, "pull:file")


def _copy(source: Path, copy: Path, info: os.stat_result, point: str, mode: int | None = None) -> None:
    """Copy a regular file in one step, with its time; nothing to do where size and time agree already."""
    if _is_same(copy, info, mode):
        return
    part = copy.with_name(PART)
    part.unlink(missing_ok=True)
    try:
        _fill(part, source, info)
    except OSError:
        part.unlink(missing_ok=True)  # on a full disk, whoever records this failure needs the room
        raise
    os.utime(part, ns=(info.st_mtime_ns, info.st_mtime_ns))
    if mode is not None:
        part.chmod(mode)
    failpoint(point)
    part.replace(copy)


def _fill(part: Path, source: Path, info: os.stat_result) -> None:
    with _open_regular(source) as read, part.open("xb") as write:
        left = info.st_size
        while left and (data := read.read(min(CHUNK, left))):
            write.write(data)
            left -= len(data)
        after = os.fstat(read.fileno())
    if (after.st_size, after.st_mtime_ns) != (info.st_size, info.st_mtime_ns) or left:
        raise Transient(f"{source} changed while it was copied", advice="write it under another name, then rename it")


def _is_same(copy: Path, info: os.stat_result, mode: int | None) -> bool:
    try:
        there = copy.lstat()
    except FileNotFoundError:
        return False
    alike = (there.st_size, there.st_mtime_ns) == (info.st_size, info.st_mtime_ns)
    return alike and stat.S_ISREG(there.st_mode) and mode in (None, stat.S_IMODE(there.st_mode))


def _open_regular(path: Path) -> BufferedReader:
    """Open for reading, and neither follow a link nor wait for a pipe's other end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    return os.fdopen(descriptor, "rb")


def _clear(top: Path, entries: list[Entry]) -> None:
    """Remove what an interrupted try left on its way."""
    for entry in entries:
        if stat.S_ISDIR(entry.info.st_mode):
            (top / entry.name / PART).unlink(missing_ok=True)
