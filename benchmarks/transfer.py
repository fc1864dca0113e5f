"""Files to a machine and back: our SSH channel against rsync and scp, on one server, near and 50 ms away.

    PYTHONPATH=. .venv/bin/python benchmarks/transfer.py [--rounds 3] [--size-mb 1000] [--files 5000]

Every transfer includes connecting. Ours runs in this process, as it does in a worker, with the tools already on the
machine, as they are once it has been reached. CPU is that of all processes at both ends, and the measure to look at
where the machine is busy with other things. The delay is added by a proxy in a process of its own. scp is left out
where it would take half an hour: it waits for five round trips per file.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from kit import Spent, middle, table
from kit import machine as this_machine

from backends.channels.ssh import SshMachine
from backends.channels.ssh_connection import SshAddress, hang_up
from backends.channels.ssh_keys import HostKeys, Identity, identity
from tests.emulators.sshd import Sshd, running_sshd, sessions

TOOLS = ("gpujob", "rsync -az", "scp -r")
PIN = "benchmark"

Taken = dict[tuple[str, str], list[Spent]]
"""By transfer and tool."""


@dataclass(frozen=True, slots=True)
class Place:
    """The same machine, at some distance."""

    server: Sshd
    port: int
    identity: Identity
    host_keys: HostKeys
    far: Path

    def machine(self) -> SshMachine:
        address = SshAddress("127.0.0.1", self.port, "root")
        return SshMachine(address, self.identity, self.host_keys, PIN, str(self.far))

    def options(self, port_flag: str) -> list[str]:
        quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return ["-i", str(self.identity.private), port_flag, str(self.port), *quiet]


def send(tool: str, place: Place, tree: Path, name: str) -> None:
    """Make ``name`` on the machine hold ``tree``."""
    if tool == "gpujob":
        place.machine().push(tree, name, lambda *_: None)
    else:
        copy(tool, place, f"{tree}/", f"root@127.0.0.1:{place.far / name}")


def fetch(tool: str, place: Place, name: str, home: Path) -> None:
    """Make ``home`` hold what ``name`` on the machine holds."""
    if tool == "gpujob":
        place.machine().pull(name, home, lambda *_: None)
    else:
        copy(tool, place, f"root@127.0.0.1:{place.far / name}/", str(home))


def copy(tool: str, place: Place, source: str, dest: str) -> None:
    if tool == "rsync -az":
        command = ["rsync", "-az", "-e", " ".join(["ssh", *place.options("-p")]), source, dest]
    else:
        command = ["scp", "-q", "-r", *place.options("-P"), source + ".", dest]
        if ":" not in dest:
            Path(dest).mkdir(exist_ok=True)
        else:
            Path(dest.partition(":")[2]).mkdir(exist_ok=True)
    subprocess.run(command, check=True)


def timed(server: Sshd, action: Callable[[], None]) -> Spent:
    """One transfer over a connection of its own."""
    hang_up(PIN)
    before = cpu_seconds(server)
    began = time.perf_counter()
    action()
    wall = time.perf_counter() - began
    hang_up(PIN)
    return Spent(wall, cpu_seconds(server) - before)


def cpu_seconds(server: Sshd) -> float:
    """CPU of this process, of programs that it ran, and of all sessions that the server has had."""
    while sessions(server.pid):
        time.sleep(0.05)
    ours, programs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    over = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return over + sum(each.ru_utime + each.ru_stime for each in (ours, programs))


def measured(place: Place, tree: Path, home: Path, rounds: int, tools: Sequence[str]) -> Taken:
    """What each transfer took, tools in turn within each round."""
    taken: Taken = {}
    for _ in range(rounds):
        for tool in tools:
            for again in ("first", "again"):
                spent = timed(place.server, lambda tool=tool: send(tool, place, tree, "copy"))
                taken.setdefault((f"there, {again}", tool), []).append(spent)
            for again in ("first", "again"):
                spent = timed(place.server, lambda tool=tool: fetch(tool, place, "copy", home))
                taken.setdefault((f"back, {again}", tool), []).append(spent)
            check_same(tree, home)
            shutil.rmtree(place.far / "copy")
            shutil.rmtree(home)
    return taken


def check_same(tree: Path, home: Path) -> None:
    done = subprocess.run(["diff", "-rq", tree, home], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stdout)


def make_small(folder: Path, count: int, text: Text) -> None:
    """Files as a project has them: text of 100 bytes to 20 kB, in 100 folders."""
    for number in range(count):
        path = folder / f"package{number % 100}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text(round(10 ** random.Random(number).uniform(2, 4.3))))


def make_big(folder: Path, size: int, text: Text) -> None:
    """One file: its first half text that never repeats, its second half random bytes."""
    folder.mkdir()
    with (folder / "big").open("wb") as file:
        while file.tell() < size // 2:
            file.write(text(1_000_000))
        while file.tell() < size:
            file.write(os.urandom(min(1 << 20, size - file.tell())))


class Text:
    """Text of 5,000 made-up words, as frequent as words are (Zipf); it deflates to about a third."""

    def __init__(self) -> None:
        self._dice = random.Random(1)
        letters = "etaoinshrdlucmfwypvbgk"
        self._words = ["".join(self._dice.choices(letters, k=self._dice.randint(2, 10))) for _ in range(5000)]
        self._weights = list(accumulate(1 / rank for rank in range(1, 5001)))

    def __call__(self, size: int) -> bytes:
        words = self._dice.choices(self._words, cum_weights=self._weights, k=size // 5 + 1)
        return " ".join(words).encode()[:size]


@contextmanager
def at_distance(server: Sshd, round_trip_ms: int) -> Iterator[int]:
    """The port at which the server is that far away."""
    if round_trip_ms == 0:
        yield server.port
        return
    words = ["-m", "tests.emulators.faultproxy", "--to", f"127.0.0.1:{server.port}"]
    command = [sys.executable, *words, "--delay-ms", str(round_trip_ms / 2)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout
        yield int(proxy.stdout.readline())
        assert proxy.stdin
        proxy.stdin.close()


def rows(title: str, taken: Taken) -> Iterator[list[str]]:
    for transfer in dict.fromkeys(transfer for transfer, _ in taken):
        middles = [middle(taken[transfer, tool]) if (transfer, tool) in taken else None for tool in TOOLS]
        ours, rsync, *_ = middles
        assert ours
        assert rsync
        shown = [f"{each.wall:.2f} s ({each.cpu:.2f})" if each else "-" for each in middles]
        yield [f"{title}, {transfer}", *shown, f"{ours.wall / rsync.wall:.2f} ({ours.cpu / rsync.cpu:.2f})"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--files", type=int, default=5000)
    asked = parser.parse_args()
    text = Text()
    with tempfile.TemporaryDirectory() as name, running_sshd(Path(name) / "sshd") as server:
        folder = Path(name)
        keys = identity(folder / "identity")
        server.allow(keys.public)
        make_small(folder / "small", asked.files, text)
        make_big(folder / "big", asked.size_mb * 1_000_000, text)
        trees = {f"{asked.files} small files": "small", f"one file of {asked.size_mb} MB": "big"}
        lines: list[list[str]] = []
        for round_trip in (0, 50):
            with at_distance(server, round_trip) as port:
                place = Place(server, port, keys, HostKeys(folder / "host_keys.json"), folder / "far")
                place.machine().reach()
                for title, tree in trees.items():
                    tools = TOOLS[:2] if tree == "small" and round_trip else TOOLS
                    taken = measured(place, folder / tree, folder / "home", asked.rounds, tools)
                    for row in rows(f"{title}, {round_trip} ms", taken):
                        print(*row, sep="  ", file=sys.stderr, flush=True)
                        lines.append(row)
                hang_up(PIN)
        print(this_machine(), "\nSeconds on the wall, in brackets of CPU.\n")
        print(table(["transfer", *TOOLS, "gpujob / rsync"], lines))


if __name__ == "__main__":
    main()
