"""Many trivial jobs queued at once: is the worker's memory bounded, and how many jobs does it finish per second?

    .venv/bin/python benchmarks/queueing.py [JOBS ...]       (100 and 1000 unless named)

Jobs are recorded by the functions that ``gpujob submit`` calls; then one real worker carries them all, and is looked at
from outside, four times per second: resident memory, threads, open files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kit import GPUJOB, environment, machine, table, write_spec

from orchestrator.cli.recording import record
from orchestrator.cli.submitting import Wish, prepare
from orchestrator.home import Home
from orchestrator.planning.plan import Priority
from orchestrator.records.reading import Reader
from orchestrator.records.store import Store

LOOK_SECONDS = 0.25
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """The worker at one moment."""

    at: float
    done: int
    rss_bytes: int
    threads: int
    files: int


def queue_jobs(home: Home, spec: Path, count: int) -> float:
    """Record ``count`` jobs; seconds per job."""
    store = Store(home.ensure().journal)
    wish = Wish(spec, 1_000_000, Priority.BALANCED)
    prepared = prepare(home, Reader(home.journal), wish)
    began = time.perf_counter()
    for _ in range(count):
        record(home, store, wish, prepared)
    took = time.perf_counter() - began
    store.close()
    return took / count


def watch_worker(home: Home, env: dict[str, str]) -> list[Look]:
    """Start a worker, look at it until it is out of work; what was seen."""
    reader = Reader(home.journal)
    began = time.perf_counter()
    worker = subprocess.Popen([GPUJOB, "worker", "--until-idle"], env=env, stderr=subprocess.DEVNULL)
    looks: list[Look] = []
    while worker.poll() is None:
        looks.append(_look(worker.pid, time.perf_counter() - began, reader))
        time.sleep(LOOK_SECONDS)
    if worker.returncode:
        raise AssertionError(f"the worker ended with {worker.returncode}")
    return [look for look in looks if look.rss_bytes]


def _look(pid: int, at: float, reader: Reader) -> Look:
    done = reader.rows("SELECT count(*) AS n FROM job WHERE state = 'succeeded'")[0]["n"]
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        files = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  only the number matters
    except (FileNotFoundError, PermissionError):
        return Look(at, done, 0, 0, 0)
    return Look(at, done, int(status.get("VmRSS", "0 kB").split()[0]) * 1024, int(status.get("Threads", 0)), files)


def measure(count: int) -> tuple[list[str], list[Look]]:
    """One line of the table, and everything seen on the way."""
    with tempfile.TemporaryDirectory(prefix="gpujob-bench-") as folder:
        home = Home(Path(folder) / "home")
        each = queue_jobs(home, write_spec(Path(folder) / "job"), count)
        looks = watch_worker(home, environment(home.root))
        states = Reader(home.journal).rows("SELECT state, count(*) AS n FROM job GROUP BY state")
    if states != [{"state": "succeeded", "n": count}]:
        raise AssertionError(f"not all of {count} jobs succeeded: {states}")
    peak = _peak(looks, lambda look: look.rss_bytes)
    row = [
        str(count),
        f"{each * 1000:.1f} ms",
        f"{looks[-1].at:.0f} s",
        f"{count / looks[-1].at:.1f}",
        f"{peak / MB:.1f} MB",
        str(_peak(looks, lambda look: look.threads)),
        str(_peak(looks, lambda look: look.files)),
    ]
    return row, looks


def _peak(looks: list[Look], of: Callable[[Look], int]) -> int:
    return max(map(of, looks))


def over_time(looks: list[Look], parts: int = 5) -> str:
    """Memory when so many jobs were done: a leak shows as a slope."""
    total = looks[-1].done or 1
    marks = [next(look for look in looks if look.done >= total * part / parts) for part in range(parts + 1)]
    headers = ("jobs done", *(str(look.done) for look in marks))
    return table(headers, [("resident memory, MB", *(f"{look.rss_bytes / MB:.1f}" for look in marks))])


def main(counts: list[int]) -> None:
    """Measure and print."""
    print(machine())
    rows, seen = [], []
    for count in counts:
        row, looks = measure(count)
        rows.append(row)
        seen.append((count, looks))
    headers = ("jobs", "recording one", "until all done", "jobs per second", "worker's peak memory", "threads", "files")
    print("\n" + table(headers, rows))
    for count, looks in seen:
        print(f"\n{count} jobs:\n\n{over_time(looks)}")


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [100, 1000])
