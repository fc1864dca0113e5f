"""Colab as the stand-in command sees it: assignments, what they cost, what goes wrong; each a folder with processes.

The texts, codes and quirks are those of google-colab-cli 0.7.5 (and 0.6.0 with ``old``), read in its source: an unknown
GPU becomes an A100, 400 without entitlement, 412 for too many, lists without names, an assignment whose reply is lost.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from backends.runner import runner
from tests.emulators.guest.container import open_group
from tests.emulators.serving import EmulatorServer, hang_up

BIN = Path(__file__).parent / "bin"
"""Goes before PATH."""
ROOM = 1_000_000_000
"""Bytes of RAM of a runtime."""
GPUS = {
    "NONE": (), "T4": ("Tesla T4", 15360), "L4": ("NVIDIA L4", 23034), "A100": ("NVIDIA A100-SXM4-40GB", 40960),
    "G4": ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887), "H100": ("NVIDIA H100 80GB HBM3", 81559),
}  # fmt: skip
UNITS = {"NONE": 0.08, "T4": 1.19, "L4": 1.71, "A100": 5.40, "G4": 8.71, "H100": 12.0}


@dataclass
class Runtime:
    """One assignment: its folder is its disk, its processes carry its name and are limited by the kernel below."""

    endpoint: str
    asked: str
    gpu: str
    folder: Path
    group: runner.Cgroup | None
    born: float
    ended: float | None = None

    def pids(self) -> list[int]:
        """Every process in it."""
        marked = f"COLAB_RUNTIME={self.endpoint}".encode()
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _carries(path, marked)]

    def end(self) -> None:
        """All of it is gone at once, its disk as well."""
        while pids := self.pids():
            runner.send(pids, signal.SIGKILL)
            time.sleep(0.02)
        if self.group:
            self.group.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kills(self) -> int:
        """How many of its processes the kernel has killed for memory."""
        return (self.group.oom_kills() or 0) if self.group else 0


@dataclass
class Colab:
    """An account with a balance. What goes wrong is set by attributes; times in seconds."""

    folder: Path
    balance: float = 100.0
    most: int = 3
    entitled: tuple[str, ...] = ("NONE", "T4", "L4", "A100", "G4")
    instead: dict[str, str] = field(default_factory=dict)
    """What is given in the place of a kind, without a word."""
    list_lag: float = 0.0
    """A new runtime is listed so late."""
    late_stops: float = 0.0
    """A stopped one is listed for so long."""
    lost_births: int = 0
    """So many assignments are made, and their replies lost."""
    broken: int = 0
    """So many commands that reach into a runtime fail on the network."""
    old: bool = False
    signed_in: bool = True
    no_way_out: bool = False
    """Runtimes do not know the address by which they are given back from inside."""
    runtimes: list[Runtime] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.folder.mkdir(parents=True)
        self._server = _Server(self)
        self.address = f"127.0.0.1:{self._server.server_port}"

    @property
    def env(self) -> dict[str, str]:
        """What whoever types `colab` needs to be asked of this one."""
        return {"COLAB_STANDIN": self.address}

    def up(self) -> list[Runtime]:
        """The runtimes that are there."""
        with self.lock:
            return [each for each in self.runtimes if each.ended is None]

    def units(self) -> float:
        """What all runtimes have taken until now."""
        now = time.time()
        return sum(UNITS[each.gpu] * ((each.ended or now) - each.born) / 3600 for each in self.runtimes)

    def assign(self, asked: str) -> Runtime | int:
        """A new runtime, or the error code."""
        with self.lock:
            if asked not in self.entitled:
                return 400
            if len(self.up()) >= self.most:
                return 412
            number = len(self.runtimes) + 1
            endpoint, gpu = f"gpu-standin-{number}-{id(self):x}", self.instead.get(asked, asked)
            folder = self.folder / f"vm{number}"
            (folder / "content" / "sample_data").mkdir(parents=True)
            group = open_group(f"gpujob-colabcli-{endpoint}")
            if group:
                (runner.limit_cgroup2 if group.version == 2 else runner.limit_cgroup1)(group, ROOM)
            _install_gpu(folder / "bin", GPUS[gpu])
            self.runtimes.append(Runtime(endpoint, asked, gpu, folder, group, time.time()))
            return self.runtimes[-1]

    def unassign(self, endpoint: str) -> bool:
        """End a runtime; False where there is none of that name."""
        with self.lock:
            found = self.runtime(endpoint)
            if found is None:
                return False
            found.ended = time.time()
        threading.Thread(target=found.end).start()
        return True

    def runtime(self, endpoint: str) -> Runtime | None:
        """The one that is up under that name."""
        return next((each for each in self.up() if each.endpoint == endpoint), None)

    def listed(self) -> list[Runtime]:
        """What a list shows now."""
        now = time.time()
        with self.lock:
            return [
                each for each in self.runtimes
                if now - each.born >= self.list_lag and (each.ended is None or now - each.ended < self.late_stops)
            ]  # fmt: skip

    def close(self) -> None:
        """Everything ends."""
        self._server.stop()
        for each in self.runtimes:
            each.end()


class _Server(EmulatorServer):
    def __init__(self, colab: Colab) -> None:
        self.colab = colab
        super().__init__(0, _Handler, "colab")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        colab, words = self.server.colab, self.path.strip("/").split("/")
        if words == ["facts"]:
            self._say(200, {"old": colab.old, "signed_in": colab.signed_in})
        elif words == ["assignments"]:
            self._say(200, [{"endpoint": each.endpoint, "accelerator": each.gpu} for each in colab.listed()])
        elif words == ["ccu-info"]:
            rate = sum(UNITS[each.gpu] for each in colab.up())
            self._say(200, [colab.balance - colab.units(), rate, len(colab.up())])
        else:
            self._say(*self._inside(words[1]))

    def do_POST(self) -> None:
        colab, words = self.server.colab, self.path.strip("/").split("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if words[0] == "command":
            colab.commands.append(body)
            self._say(200, {})
        elif words[0] == "assign":
            self._assign(words[1])
        else:  # from outside /unassign/NAME, from inside /NAME/unassign
            name = next(word for word in words if word != "unassign")
            self._say(200 if colab.unassign(name) else 404, {})

    def _assign(self, asked: str) -> None:
        colab, made = self.server.colab, self.server.colab.assign(asked)
        if isinstance(made, int):
            self._say(made, {})
        elif colab.lost_births:
            colab.lost_births -= 1
            hang_up(self)
        else:
            self._say(200, {"endpoint": made.endpoint})

    def _inside(self, endpoint: str) -> tuple[int, Any]:
        """How a command enters a runtime."""
        colab = self.server.colab
        found = colab.runtime(endpoint)
        if found is None:
            return 404, {}
        if colab.broken:
            colab.broken -= 1
            return 502, {}
        way_out = {} if colab.no_way_out else {"TBE_RUNTIME_ADDR": f"{colab.address}/{endpoint}"}
        procs = str(found.group.file("cgroup.procs")) if found.group else None
        return 200, {"folder": str(found.folder), "procs": procs, "env": way_out | {"COLAB_RUNTIME": endpoint}}

    def _say(self, code: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _install_gpu(folder: Path, gpu: tuple[Any, ...]) -> None:
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{gpu[0]}, {gpu[1]}'\n" if gpu else "#!/bin/sh\nexit 9\n")
    program.chmod(0o755)


def _carries(process: Path, setting: bytes) -> bool:
    try:
        return setting in process.joinpath("environ").read_bytes().split(b"\0")
    except OSError:
        return False
