"""Files to a machine and back: our SSH channel against rsync and scp, on one server, near and 50 ms away.

    PYTHONPATH=. .venv/bin/python benchmarks/transfer.py [--rounds 3] [--size-mb 1000] [--files 5000]

Every transfer includes connecting. Ours runs in this process, as it does in a worker, with the tools already on the
machine, as they are once it has been reached. The delay is added by a proxy in a process of its own. scp is left out
where it would take half an hour: it waits for five round trips per file.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kit import machine as this_machine
from kit import table

from backends.channels.ssh import SshMachine
from backends.channels.ssh_connection import SshAddress, hang_up
from backends.channels.ssh_keys import HostKeys, Identity, identity
from tests.emulators.sshd import Sshd, running_sshd

WORDS = [
    "def",
    "return",
    "import",
    "self",
    "train",
    "loss",
    "model",
    "tensor",
    "for",
    "in",
    "range",
    "epoch",
    "step",
    "print",
    "value",
    "True",
    "False",
    "None",
]
TOOLS = ("gpujob", "rsync -az", "scp -r")
PIN = "benchmark"


@dataclass(frozen=True, slots=True)
class Place:
    """The same machine, at some distance."""

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


def timed(action: Callable[[], None]) -> float:
    hang_up(PIN)
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measured(
    place: Place, tree: Path, home: Path, rounds: int, tools: Sequence[str]
) -> dict[tuple[str, str], list[float]]:
    """Seconds per (transfer, tool), tools in turn within each round."""
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for tool in tools:
            for again in ("first", "again"):
                seconds = timed(lambda tool=tool: send(tool, place, tree, "copy"))
                taken.setdefault((f"there, {again}", tool), []).append(seconds)
            for again in ("first", "again"):
                seconds = timed(lambda tool=tool: fetch(tool, place, "copy", home))
                taken.setdefault((f"back, {again}", tool), []).append(seconds)
            check_same(tree, home)
            shutil.rmtree(place.far / "copy")
            shutil.rmtree(home)
    return taken


def check_same(tree: Path, home: Path) -> None:
    done = subprocess.run(["diff", "-rq", tree, home], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stdout)


def make_small(folder: Path, count: int, dice: random.Random) -> None:
    """Files as a project has them: text of 100 bytes to 20 kB, in 100 folders."""
    for number in range(count):
        path = folder / f"package{number % 100}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(dice, round(10 ** dice.uniform(2, 4.3))), encoding="utf-8")


def make_big(folder: Path, size: int, dice: random.Random) -> None:
    """One file: its first half text, its second half random bytes."""
    folder.mkdir()
    with (folder / "big").open("wb") as file:
        piece = text(dice, 1_000_000).encode()
        while file.tell() < size // 2:
            file.write(piece[: dice.randrange(len(piece) // 2, len(piece))])
        while file.tell() < size:
            file.write(os.urandom(min(1 << 20, size - file.tell())))


def text(dice: random.Random, size: int) -> str:
    return " ".join(f"{dice.choice(WORDS)}{dice.randrange(100)}" for _ in range(size // 7))


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


def rows(title: str, taken: dict[tuple[str, str], list[float]]) -> Iterator[list[str]]:
    for transfer in dict.fromkeys(transfer for transfer, _ in taken):
        times = [taken.get((transfer, tool)) for tool in TOOLS]
        ours, rsync, *_ = middles = [statistics.median(each) if each else None for each in times]
        assert ours
        assert rsync
        shown = [f"{each:.2f} s" if each else "-" for each in middles]
        yield [f"{title}, {transfer}", *shown, f"{ours / rsync:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--files", type=int, default=5000)
    asked = parser.parse_args()
    dice = random.Random(1)
    with tempfile.TemporaryDirectory() as name, running_sshd(Path(name) / "sshd") as server:
        folder = Path(name)
        keys = identity(folder / "identity")
        server.allow(keys.public)
        make_small(folder / "small", asked.files, dice)
        make_big(folder / "big", asked.size_mb * 1_000_000, dice)
        trees = {f"{asked.files} small files": "small", f"one file of {asked.size_mb} MB": "big"}
        lines: list[list[str]] = []
        for round_trip in (0, 50):
            with at_distance(server, round_trip) as port:
                place = Place(port, keys, HostKeys(folder / "host_keys.json"), folder / "far")
                place.machine().reach()
                for title, tree in trees.items():
                    tools = TOOLS[:2] if tree == "small" and round_trip else TOOLS
                    taken = measured(place, folder / tree, folder / "home", asked.rounds, tools)
                    for row in rows(f"{title}, {round_trip} ms", taken):
                        print(*row, sep="  ", file=sys.stderr, flush=True)
                        lines.append(row)
                hang_up(PIN)
        print(this_machine(), "\n")
        print(table(["transfer", *TOOLS, "gpujob / rsync"], lines))


if __name__ == "__main__":
    main()
