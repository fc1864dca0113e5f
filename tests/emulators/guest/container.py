"""Rented machines as containers on this one: what they share, what they have for themselves, and how they end.

A guest is a process tree in its own process, mount, IPC and host-name namespaces, below a root of its own in which
only this machine's programs are visible (read-only), in a memory control group that the kernel enforces. It shares the
network: sshd listens on a loopback address of its own. That takes Linux and root; ``why_no_guests`` says what is
missing.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from backends.runner import runner

HERE = Path(__file__).parent
SSHD_PORT = 22022
"""Below the ports that the kernel gives out, so that nobody has it by chance."""
NVIDIA_SMI = {"/usr/local/bin/nvidia-smi": (str(HERE / "nvidia-smi"), 0o755)}
ENDING_SECONDS = 60.0

_addresses = itertools.count(random.SystemRandom().randrange(1, 1 << 20))


@cache
def why_no_guests() -> str | None:
    """What this machine lacks for running guests, in words; None where it lacks nothing."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "GUESTS NEED LINUX AND ROOT (namespaces and control groups)"
    if not Path("/usr/sbin/sshd").exists():
        return "GUESTS NEED /usr/sbin/sshd: apt-get install openssh-server"
    said: list[str] = []
    ended: list[int] = []
    image = Image(
        name="trial", command=["true"], env={"PATH": "/bin"}, memory_bytes=0, disk_bytes=None, gpus=[], has_gpu=False,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trial = Container(
            image, Path(folder, "trial"), None, next_address(), on_line=said.append,
            on_exit=lambda status, _: ended.append(status),
        )  # fmt: skip
        trial.wait()
        trial.remove()
    return None if ended == [0] else f"GUESTS CANNOT BE STARTED HERE: {said[-1] if said else ended}"


@cache
def why_no_memory_limit() -> str | None:
    """Why guests have no memory limit here; None where they have one."""
    group = open_group(f"gpujob-trial-{os.getpid()}")
    if group is None:
        return "NO WRITABLE MEMORY CONTROL GROUP HERE: guests are not limited"
    group.remove()
    return None


def open_group(name: str) -> runner.Cgroup | None:
    """A control group to make guests' groups in; None where this machine lets us have none."""
    for opening in (runner.open_cgroup2, runner.open_cgroup1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it forks, for an instant, beside our threads
            cap = opening(name, 1 << 50)
        if cap and cap.cgroup:
            if cap.cgroup.version == 2:
                cap.cgroup.write("cgroup.subtree_control", "+memory")
            return cap.cgroup
    return None


def next_address() -> tuple[str, int]:
    """A loopback address that no other guest has."""
    number = next(_addresses)
    return f"127.{64 + (number >> 16) % 128}.{(number >> 8) % 256}.{number % 256}", SSHD_PORT


@dataclass(kw_only=True)
class Image:
    """What a container is made from. Sizes in bytes; ``disk_bytes`` None means as much as this machine has.

    ``files`` are copied into it: where, from which file here, with which mode; ``told`` are files of ``/run/guest``.
    """

    name: str
    command: list[str]
    env: dict[str, str]
    memory_bytes: int
    disk_bytes: int | None
    gpus: list[dict[str, Any]]
    has_gpu: bool
    mounts: list[tuple[str, str]] = field(default_factory=list)
    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)


class Container:
    """One run of an image. ``on_line`` gets each line that it prints, ``on_exit`` its status and OOM kills."""

    def __init__(
        self,
        image: Image,
        folder: Path,
        group: runner.Cgroup | None,
        address: tuple[str, int],
        *,
        on_line: Callable[[str], None],
        on_exit: Callable[[int, int], None],
    ) -> None:
        self.folder = folder
        self._control = folder / "control"
        self._on_line = on_line
        self._on_exit = on_exit
        self._cpu_seen = (0.0, 0.0)
        self._group = self._make_group(group, folder.name, image.memory_bytes)
        for part in (folder / "root", self._control):
            part.mkdir(parents=True)
        (self._control / "gpus").write_text(json.dumps(image.gpus))
        for name, text in image.told.items():
            (self._control / name).write_text(text)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(HERE / "launch.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin
        self._process.stdin.write(json.dumps(self._describe(image, address)).encode() + b"\n")
        self._process.stdin.flush()
        self._thread = threading.Thread(target=self._follow, name=f"guest-{folder.name}", daemon=True)
        self._thread.start()

    def _make_group(self, parent: runner.Cgroup | None, name: str, size: int) -> runner.Cgroup | None:
        if parent is None:
            return None
        group = runner.Cgroup(parent.file(name), parent.version)
        Path(group.path).mkdir()
        (runner.limit_cgroup2 if group.version == 2 else runner.limit_cgroup1)(group, size)
        if group.version == 2:  # as in containers, the kernel kills one process, not all
            with contextlib.suppress(FileNotFoundError):
                group.write("memory.oom.group", 0)
        return group

    def _describe(self, image: Image, address: tuple[str, int]) -> dict[str, Any]:
        return {
            "root": str(self.folder / "root"),
            "control": str(self._control),
            "disk_bytes": image.disk_bytes,
            "python": {"prefix": sys.base_prefix, "program": os.path.realpath(sys.executable)},
            "cgroup": self._group and {"path": self._group.path, "version": self._group.version},
            "mounts": image.mounts,
            "hostname": image.name,
            "sshd": address,
            "files": {**image.files, **(NVIDIA_SMI if image.has_gpu else {})},
            "command": image.command,
            "env": image.env,
        }

    def _follow(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._on_line(line.decode(errors="replace").rstrip("\n"))
        status = self._process.wait()
        self._process.stdout.close()
        self._on_exit(status, self.oom_kills())

    def wait(self) -> None:
        """Wait for its end."""
        self._thread.join(ENDING_SECONDS)

    def kill(self) -> None:
        """End it and all its processes; returns when they are gone. Harmless if it has ended."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(ENDING_SECONDS)
        if threading.current_thread() is not self._thread:
            self._thread.join(ENDING_SECONDS)

    def remove(self) -> None:
        """Kill it and wipe its disk."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[int]:
        """The pids of its live processes, as this machine numbers them."""
        return self._group.pids() if self._group and Path(self._group.path).exists() else []

    def oom_kills(self) -> int:
        """How often the kernel has killed in it for memory."""
        if self._group is None:
            return 0
        with contextlib.suppress(OSError, ValueError):
            return int((self._control / "oom-kills").read_text())
        return self._group.oom_kills() or 0

    def set_gpu_use(self, index: int, used_mib: int, percent: int) -> None:
        """What its nvidia-smi says from now on about one GPU."""
        use = self.gpu_use() | {str(index): {"used_mib": used_mib, "percent": percent}}
        runner.write_atomically(str(self._control / "gpu-use"), json.dumps(use), durable=False)

    def gpu_use(self) -> dict[str, dict[str, int]]:
        """What was set, by GPU index."""
        return runner.read_record(str(self._control / "gpu-use"))

    def memory_percent(self) -> int:
        """RAM in use, of its limit."""
        limit = self._group.limit() if self._group and Path(self._group.path).exists() else None
        return min(100, round(100 * self._group.ram() / limit)) if self._group and limit else 0

    def cpu_percent(self) -> int:
        """CPU time since the last call, of what this machine could give; 0 at the first call."""
        now, used = time.monotonic(), sum(each.cpu for each in runner.processes(self.processes()).values())
        (then, before), self._cpu_seen = self._cpu_seen, (now, used)
        share = (used - before) / max(now - then, 1e-3) / (os.cpu_count() or 1)
        return max(0, min(100, round(100 * share))) if then else 0
