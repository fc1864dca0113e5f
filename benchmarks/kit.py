"""What the benchmarks share: whole processes measured in turn, medians, and tables in Markdown."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.home import Home
from orchestrator.lifecycle.waking import worker_runs

BIN = Path(sys.executable).parent
GPUJOB = str(BIN / "gpujob")
PASS = "python -c pass"
"""The yardstick: what any Python program costs here, measured in the same rounds."""

SPEC = """\
name: noop
run: "true"
needs: {gpu: none, ram: 50 MB}
limits: {runtime: 1m}
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one process took, in seconds: by the clock on the wall, and of the CPU."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Middle:
    """The medians of several processes, and the quickest of them."""

    wall: float
    cpu: float
    best: float


def environment(home: Path) -> dict[str, str]:
    """Ours, with a home of its own, and with compiled modules kept as an installation keeps them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "GPUJOB_HOME": str(home), "PYTHONPYCACHEPREFIX": str(home.parent / "pycache")}


def write_spec(folder: Path) -> Path:
    """A job that does nothing, in a folder of its own."""
    folder.mkdir()
    spec = folder / "noop.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    return spec


def run(command: Sequence[str], env: Mapping[str, str]) -> Spent:
    """Run to the end, output dropped. Raises AssertionError if it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {process.returncode}")
    return Spent(wall, usage.ru_utime + usage.ru_stime)


def interleaved(commands: Mapping[str, Sequence[str]], rounds: int, env: Mapping[str, str]) -> dict[str, Middle]:
    """Every command once in each round, after one round to warm up, so that a busy moment touches all alike."""
    for command in commands.values():
        run(command, env)
    taken: dict[str, list[Spent]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            taken[name].append(run(command, env))
    return {name: middle(each) for name, each in taken.items()}


def middle(taken: Sequence[Spent]) -> Middle:
    """The medians."""
    walls = [each.wall for each in taken]
    return Middle(statistics.median(walls), statistics.median(each.cpu for each in taken), min(walls))


@contextmanager
def warm_worker(spec: Path, env: Mapping[str, str]) -> Iterator[None]:
    """A worker in the foreground, warmed by one job of ``spec``; told to stop at the end, and waited for."""
    worker = subprocess.Popen([GPUJOB, "worker"], env=env, stderr=subprocess.DEVNULL)
    try:
        while not worker_runs(Home(Path(env["GPUJOB_HOME"]))):
            time.sleep(0.05)
        run([GPUJOB, "submit", str(spec), "--budget", "1"], env)
        yield
    finally:
        worker.terminate()
        worker.wait()


def ms(seconds: float) -> str:
    """Milliseconds for a table."""
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.2f} ms"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown: the first column to the left, numbers to the right."""
    lines = [headers, ["---"] + ["---:"] * (len(headers) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """What and when this was measured, and how busy the machine was with other things."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {platform.system()}, "
        f"{_cpu()}, {os.cpu_count()} cores, load {load}"
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
