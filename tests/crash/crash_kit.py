"""Real homes, real jobs, real workers that are really killed, and what must hold of a journal afterwards."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.cli.recording import record
from orchestrator.cli.submitting import Wish, prepare
from orchestrator.clock import SystemClock, stamp
from orchestrator.home import Home
from orchestrator.planning.plan import Priority
from orchestrator.records.jobs import request_cancel
from orchestrator.records.reading import Reader
from orchestrator.records.store import Store

PATIENCE = 60.0
"""Seconds until something that must happen counts as not happening."""

NEVER = 10**9
"""A failpoint that no worker reaches: points are traced, and nobody is killed."""

_one_migration = threading.Lock()
"""alembic keeps its state in module globals; a program makes one journal, these tests make many at once."""

P = TypeVar("P", bound="Place")

STEPS = ["provision", "upload", "execute", "fetch", "teardown"]


def eventually(what: Callable[[], Any], why: str) -> Any:
    """The first true value of ``what``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.002)
    raise AssertionError(f"never: {why}")


class Zygote:
    """A process that forks workers; one worker at a time. It imports ``preload`` once for all of them."""

    def __init__(self, preload: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker_zygote.py")), *preload.split()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def worker(self, place: Place, crash_at: int | str = NEVER) -> int:
        """Run a worker until it is idle or dies at its ``crash_at``-th failpoint, or the first so called; its exit
        status.
        """
        assert self._process.stdin
        assert self._process.stdout
        log, trace = place.home.root / "worker.out", place.trace_file
        order = {"home": str(place.home.root), "crash_at": crash_at, "trace": str(trace), "log": str(log)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


Told = Callable[[str, object], None]
"""pytest's ``record_property``: what tools/reliability.py makes its table of."""


def stride(usual: int) -> int:
    """Every so many-th point is died at; GPUJOB_CRASH_STRIDE says otherwise for all sweeps at once."""
    return int(os.environ.get("GPUJOB_CRASH_STRIDE", usual))


def sweep(
    folder: Path, crash: Callable[[P, Zygote, int], bool], kind: type[P] | None = None, *,
    first: int = 1, every: int = 1, side_by_side: int = 4, preload: str = "",
) -> int:  # fmt: skip
    """Raise N from ``first`` until ``crash(place, zygote, N)`` says that the worker was not killed; how many were.

    So many crash runs are under way at once, each in a place of its own.
    """
    numbers = iter(range(first, NEVER, every))
    done, turn = threading.Event(), threading.Lock()
    reached: list[int] = []

    def lane() -> None:
        zygote = Zygote(preload)
        try:
            while not done.is_set():
                with turn:
                    number = next(numbers)
                if not crash((kind or Place)(folder / f"at-{number}"), zygote, number):
                    break
                reached.append(number)
        finally:
            done.set()
            zygote.close()

    with ThreadPoolExecutor(side_by_side) as pool:
        lanes = [pool.submit(lane) for _ in range(side_by_side)]
    for each in lanes:
        each.result()
    # Every point was killed at, in order; only at the end may one lane have got through a little before another,
    # since a run is looked at a few times more or less.
    certain = sorted(reached)[:-side_by_side]
    assert certain == [first + every * index for index in range(len(certain))]
    assert len(reached) * every > 20
    return len(reached)


@dataclass
class Place:
    """One home, and the jobs in it."""

    folder: Path
    home: Home = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = Home(self.folder / "home").ensure()

    @property
    def runs_file(self) -> Path:
        """Every start of a job's command appends its attempt's key here."""
        return self.folder / "runs"

    @property
    def trace_file(self) -> Path:
        return self.folder / "trace"

    def runs(self) -> list[str]:
        return self.runs_file.read_text().split() if self.runs_file.exists() else []

    def trace(self) -> list[str]:
        """Names of the failpoints that workers reached, in order."""
        lines = self.trace_file.read_text().splitlines() if self.trace_file.exists() else []
        return [line.split()[1] for line in lines]

    def price(self, usd_per_hour: str) -> None:
        self.home.config.write_text(f'[local]\nprice_per_hour = "{usd_per_hour}"\n')

    def submit(
        self,
        spec: dict[str, Any],
        files: dict[str, bytes] | None = None,
        budget: int = 10_000_000,
        backends: tuple[str, ...] = (),
    ) -> str:
        """Record a job as `gpujob submit` does, and wake nobody."""
        work = self.folder / "spec"
        work.mkdir(exist_ok=True)
        for name, data in (files or {}).items():
            (work / name).write_bytes(data)
        base = {"name": "crash", "needs": {"gpu": "none"}, "duration": {"on": "cpu", "minutes": 1}}
        (work / "job.yaml").write_text(json.dumps({**base, "env": {"RUNS": str(self.runs_file)}, **spec}))
        with _one_migration:
            store = Store(self.home.journal)
        wish = Wish(work / "job.yaml", budget, Priority.BALANCED, backends)
        prepared = prepare(self.home, Reader(self.home.journal), wish)
        assert prepared.plan.ladder, prepared.plan.advice
        job = record(self.home, store, wish, prepared)
        store.close()
        return job

    def cancel(self, job: str) -> None:
        store = Store(self.home.journal)
        request_cancel(store, job, stamp(SystemClock().now()))
        store.close()

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "GPUJOB_HOME": str(self.home.root), **more}

    def spawn(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """A `gpujob` command as a process of its own, its output kept."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", *arguments],
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def call(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.spawn(*arguments, **more)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @contextmanager
    def worker(self, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
        """A worker that is dead when the block ends."""
        process = self.spawn("worker", *(arguments or ("--until-idle",)), **more)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        reader = Reader(self.home.journal)
        try:
            return reader.rows(query, values)
        finally:
            reader.close()

    def job(self, job: str) -> dict[str, Any]:
        return self.rows("SELECT * FROM job WHERE id = ?", job)[0]

    def attempts(self, job: str) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM attempt WHERE job_id = ? ORDER BY number", job)

    def outcomes(self, job: str) -> list[str]:
        return [attempt["outcome"] for attempt in self.attempts(job)]

    def tries(self, job: str) -> list[dict[str, Any]]:
        return self.rows(
            "SELECT attempt.number AS attempt, step.name AS step, step_try.* FROM step_try"
            " JOIN step ON step.id = step_id JOIN attempt ON attempt.id = attempt_id"
            " WHERE job_id = ? ORDER BY step_try.id",
            job,
        )

    def results(self, job: str, number: int) -> dict[str, bytes]:
        """The files that came home from one attempt."""
        folder = self.home.fetched(job, number)
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def processes_of(place: Place) -> list[str]:
    """Command lines of live processes that belong to a run below this home: the job's own, and its runner's."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        runs = f"RUNS={place.runs_file}".encode() in environment
        if runs or (b"runner.py" in command and str(place.home.local).encode() in command):
            found.append(f"{folder.name}: {command.decode(errors='replace')}")
    return found


def end_all(place: Place) -> None:
    """Whatever a failed test leaves running is ended."""
    ours = f"GPUJOB_HOME={place.home.root}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if ours in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
    for line in processes_of(place):
        os.kill(int(line.partition(":")[0]), signal.SIGKILL)


def supervisor_of(place: Place, key: str) -> int:
    """The pid of a run's runner."""
    claim = place.home.local / key / "claim"
    return int(json.loads(eventually(lambda: claim.exists() and claim.read_text(), f"a claim of {key}"))["pid"])


def check_whole(place: Place, job: str) -> None:
    """What holds of every job that is over, whatever happened to its workers."""
    attempts = place.attempts(job)
    assert [a["number"] for a in attempts] == list(range(1, len(attempts) + 1))
    assert all(a["state"] == "ended" for a in attempts)
    runs = place.runs()
    assert len(runs) == len(set(runs)), f"a command ran twice: {runs}"
    _check_leases(place, attempts)
    _check_money(place, job, attempts)
    _check_tries(place, job, attempts)
    _check_files(place, job)
    assert processes_of(place) == []
    with closing(sqlite3.connect(place.home.journal)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def _check_leases(place: Place, attempts: list[dict[str, Any]]) -> None:
    leases = place.rows("SELECT * FROM lease ORDER BY attempt_id")
    assert [(row["key"], row["state"]) for row in leases] == [(a["key"], "gone") for a in attempts]
    assert list((place.home.local / "leases").glob("*")) == []


def _check_money(place: Place, job: str, attempts: list[dict[str, Any]]) -> None:
    charges = place.rows("SELECT * FROM charge WHERE job_id = ? ORDER BY attempt_id, kind", job)
    assert [(c["attempt_id"], c["kind"]) for c in charges] == [(a["id"], k) for a in attempts for k in ("idle", "run")]
    assert all(c["micros"] >= 0 and c["seconds"] >= 0 for c in charges)
    for attempt in attempts:
        mine = [c for c in charges if c["attempt_id"] == attempt["id"]]
        assert sum(c["micros"] for c in mine) == attempt["cost_micros"] <= attempt["reserved_micros"]
    assert sum(a["cost_micros"] for a in attempts) <= place.job(job)["budget_micros"]


def _check_tries(place: Place, job: str, attempts: list[dict[str, Any]]) -> None:
    tries = place.tries(job)
    for attempt in attempts:
        mine = [row for row in tries if row["attempt"] == attempt["number"]]
        names = list(dict.fromkeys(row["step"] for row in mine))
        assert names == [name for name in STEPS if name in names]
        assert names[-1] == "teardown"
        for name in names:
            of_step = [row for row in mine if row["step"] == name]
            assert [row["number"] for row in of_step] == list(range(1, len(of_step) + 1))
            assert of_step[-1]["state"] in ("done", "failed")
            assert all(row["state"] in ("interrupted", "failed") and row["error"] for row in of_step[:-1])
            assert all(row["seconds"] >= 0 for row in of_step if row["state"] != "interrupted")


def _check_files(place: Place, job: str) -> None:
    left = [p for p in place.home.root.rglob("*") if p.suffix == ".draft" or p.name.endswith((".gpujob-part", ".tmp"))]
    assert left == []
    assert [p.name for p in place.home.local.glob(f"{job}*")] == []
    assert [p.name for p in place.home.secrets.iterdir()] == []
    assert [p.name for p in place.home.locks.glob("job-*")] == []
    assert not place.home.live(job).exists()


def interrupted_by(trace: list[str]) -> int:
    """How many tries a worker that died at the end of ``trace`` left unfinished: one within a step, none between."""
    marks = [name for name in trace if name.partition(":")[2] in ("intent", "recorded", "failure")]
    return 1 if marks and marks[-1].endswith(":intent") else 0


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait until it is gone."""
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
