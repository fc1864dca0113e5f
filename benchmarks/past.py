"""A journal of the past: as many finished jobs as wished, written by plain SQL in a few seconds.

Rows are what the worker leaves: 3 of 10 jobs needed a second attempt after running out of memory, 1 of 50 failed for
good; every attempt has its five steps with a try each, its lease, two charges, its events and an observation.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.clock import stamp
from orchestrator.records.store import Store

NAMES = ("ocr-eval", "finetune", "embed", "whisper", "train-resnet", "distill", "asr-batch", "noop")
BACKENDS = (
    ("local", "cpu", None),
    ("runpod", "rtx4090", "RTX 4090"),
    ("aws", "g6.xlarge", "L4"),
    ("gce", "a2", "A100"),
)
STEPS = ("provision", "upload", "execute", "fetch", "teardown")
NEWEST = datetime(2026, 11, 20, tzinfo=UTC)
APART = timedelta(minutes=5)

Rows = dict[str, list[dict[str, Any]]]


def write_past(path: Path, count: int, spec: str, options: str, plan: str) -> None:
    """A journal at ``path`` with ``count`` finished jobs that all have this spec, options and plan (JSON texts)."""
    Store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-500000")
        connection.execute("BEGIN")
        for first in range(0, count, 1000):
            numbers = range(first, min(count, first + 1000))
            for table, rows in _batch(numbers, count, {"spec": spec, "options": options, "plan": plan}).items():
                names = list(rows[0])
                marks = ", ".join(f":{name}" for name in names)
                connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)
        connection.execute("COMMIT")


def _batch(numbers: range, count: int, texts: dict[str, str]) -> Rows:
    tables = ("job", "attempt", "step", "step_try", "lease", "charge", "event", "observation")
    batch: Rows = {table: [] for table in tables}
    for number in numbers:
        at = NEWEST - APART * (count - number)
        job = f"{NAMES[number % len(NAMES)]}-{number:06d}"
        outcomes = ["oom_host", "succeeded"] if number % 10 < 3 else ["failed" if number % 50 == 7 else "succeeded"]
        batch["job"].append(_job(job, number, at, outcomes[-1], texts))
        batch["event"].append(_event(job, at, "submitted", {}))
        for index, outcome in enumerate(outcomes):
            for table, row in _attempt(job, number, index, at + index * APART / 5, outcome):
                batch[table].append(row)
        batch["event"].append(_event(job, at + APART, "finished", {"state": batch["job"][-1]["state"]}))
    return batch


def _job(job: str, number: int, at: datetime, outcome: str, texts: dict[str, str]) -> dict[str, Any]:
    return {
        "id": job,
        "name": job[:-7],
        "state": "succeeded" if outcome == "succeeded" else "failed",
        "outcome": outcome,
        "summary": f"{outcome} with default in the first attempt for $0.42",
        "budget_micros": 3_000_000,
        "priority": "balanced",
        **texts,
        "cancel_requested": 0,
        "created_at": stamp(at),
        "started_at": stamp(at + timedelta(seconds=1)),
        "ended_at": stamp(at + timedelta(seconds=200 + number % 60)),
    }


def _attempt(job: str, number: int, index: int, at: datetime, outcome: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """One attempt with all that hangs on it; ids follow from the numbers."""
    attempt, (backend, offer, gpu) = number * 2 + index + 1, BACKENDS[number % len(BACKENDS)]
    key, cost, peak = f"{job}-a{index + 1}", 400_000 + number % 1000, 350_000_000 + number % 1_000_000
    place = {"backend": backend, "offer": offer, "gpu": gpu, "variant": "compact" if index else "default"}
    yield "attempt", place | {
        "id": attempt, "job_id": job, "number": index + 1, "key": key, "rank": index + 1, "state": "ended",
        "outcome": outcome, "summary": f"{outcome} after 180 s", "evidence": json.dumps(["the kernel's counter rose"]),
        "exit_code": 0, "peak_ram_bytes": peak, "ram_cap_bytes": 400_000_000, "micros_per_hour": 690_000,
        "allowed_seconds": 3600.0, "reserved_micros": 690_000, "cost_micros": cost, "started_at": stamp(at),
        "ended_at": stamp(at + timedelta(seconds=200)),
    }  # fmt: skip
    for position, name in enumerate(STEPS):
        step = attempt * len(STEPS) + position
        result = json.dumps(
            {"phase": "ended", "record": {"exit_code": 0, "run_seconds": 180.0, "peak_ram_bytes": peak}}
        )
        yield "step", {"id": step, "attempt_id": attempt, "name": name, "position": position, "state": "done",
                       "result": result if name == "execute" else "{}"}  # fmt: skip
        yield "step_try", {"step_id": step, "number": 1, "state": "done", "started_at": stamp(at), "seconds": 1.5}
    yield "lease", {"key": key, "attempt_id": attempt, "backend": backend, "lease_id": key, "state": "gone",
                    "created_at": stamp(at), "deleted_at": stamp(at), "details": "{}"}  # fmt: skip
    for kind, micros in (("run", cost - 1000), ("idle", 1000)):
        yield "charge", {"attempt_id": attempt, "job_id": job, "kind": kind, "micros": micros, "seconds": 90.0,
                         "at": stamp(at)}  # fmt: skip
    yield "event", _event(job, at, "attempt", {"attempt": index + 1, "why": "first choice: free"})
    yield "event", _event(job, at, "outcome", {"attempt": index + 1, "outcome": outcome, "evidence": []})
    yield "observation", place | {"attempt_id": attempt, "name": job[:-7], "spec_digest": f"digest-{number % 500}",
                                  "outcome": outcome, "peak_ram_bytes": peak, "run_seconds": 180.0,
                                  "at": stamp(at)}  # fmt: skip


def _event(job: str, at: datetime, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"job_id": job, "at": stamp(at), "kind": kind, "text": f"{kind}: in plain words", "data": json.dumps(data)}
