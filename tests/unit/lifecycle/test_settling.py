"""What an ended attempt leaves: everything that the runner saw of memory, beside what was predicted."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends.billing import Price
from orchestrator.lifecycle.outcome import Outcome, Verdict
from orchestrator.lifecycle.settling import settlement
from orchestrator.planning.need import MemoryNeed, VariantNeed
from orchestrator.records.attempts import open_attempt, settle
from orchestrator.records.jobs import add_job
from orchestrator.records.learned import Recorded, newest_observations
from orchestrator.records.reading import Reader
from orchestrator.records.states import StepState
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Job, Step
from orchestrator.spec.load import load_spec
from orchestrator.spec.model import JobSpec

AT = "2026-11-21T10:00:00.000000Z"
GB = 10**9
RECORD = {
    "peak_ram_bytes": 5 * GB, "load_ram_bytes": 4 * GB, "peak_vram_bytes": 11 * GB, "peak_device_vram_bytes": 12 * GB,
    "vram_used_before_bytes": 1 * GB, "vram_total_bytes": 16 * GB, "ram_total_bytes": 64 * GB, "setup_seconds": 10.0,
    "step_seconds": 0.42,     "run_seconds": 50.0, "versions": {"torch": "2.8.0", "driver": "550.54"},
}  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    file = tmp_path / "job.yaml"
    file.write_text("name: noop\nrun: 'true'\nneeds: {gpu: 1}\n", encoding="utf-8")
    return load_spec(file)


def observation(folder: Path, spec: JobSpec, verdict: Verdict, predicted: VariantNeed | None) -> Recorded:
    store = Store(folder / "journal.sqlite")
    options = json.dumps({"digest": "abc"})
    job = Job(id="noop-1", name="noop", budget_micros=0, priority="cost", spec="{}", options=options, created_at=AT)
    add_job(store, job, "submitted")
    attempt = Attempt(
        job_id=job.id, number=1, key="noop-1-a1", rank=1, backend="local", offer="gpu0", gpu="Tesla T4",
        variant=spec.variants[0].name, micros_per_hour=0, allowed_seconds=600.0, reserved_micros=0, started_at=AT,
    )  # fmt: skip
    open_attempt(store, attempt, "attempt 1", {})
    result: dict[str, Any] = {"phase": "ended", "record": RECORD}
    with store.write() as session:
        session.add(
            Step(attempt_id=attempt.id, name="execute", position=3, state=StepState.DONE, result=json.dumps(result))
        )
    settle(store, attempt, settlement(store, job, spec, attempt, verdict, 60.0, AT, predicted, Price(0)), AT)
    return newest_observations(Reader(folder / "journal.sqlite"), 9)[0]


def test_everything_seen_and_predicted_is_kept(tmp_path, spec):
    predicted = VariantNeed(MemoryNeed(10 * GB, 0.06, "llama"), MemoryNeed(3 * GB, 0.15), "high")
    seen = observation(tmp_path, spec, Verdict(Outcome.SUCCEEDED, "succeeded", ()), predicted)
    assert (seen.predicted_vram_bytes, seen.predicted_ram_bytes, seen.family) == (10 * GB, 3 * GB, "llama")
    assert (seen.peak_vram_bytes, seen.device_vram_bytes, seen.load_ram_bytes) == (11 * GB, 12 * GB, 4 * GB)
    assert (seen.vram_usable_bytes, seen.vram_capacity_bytes) == (15 * GB, 16 * GB)
    assert json.loads(seen.versions) == RECORD["versions"]
    assert (seen.ram_above_bytes, seen.vram_above_bytes) == (None, None)
    assert (seen.setup_seconds, seen.run_seconds, seen.step_seconds) == (10.0, 50.0, 0.42)


def test_what_was_not_enough_is_kept_as_a_bound(tmp_path, spec):
    out = Verdict(Outcome.OOM_GPU, "out of GPU memory", (), vram_above_bytes=17 * GB)
    seen = observation(tmp_path, spec, out, None)
    assert (seen.outcome, seen.vram_above_bytes, seen.predicted_vram_bytes) == ("oom_gpu", 17 * GB, None)
