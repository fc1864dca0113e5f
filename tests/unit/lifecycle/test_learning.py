"""What is on record of earlier runs reaches the planner as calibrated needs."""

import pytest

from orchestrator.lifecycle.learning import calibrated, learned, observed, reliability
from orchestrator.planning.need import MemoryNeed, VariantNeed
from orchestrator.records.jobs import add_job
from orchestrator.records.observations import add_observations
from orchestrator.records.reading import Reader
from orchestrator.records.sharing import identified
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Job, Observation

GB = 10**9
NEED = VariantNeed(MemoryNeed(10 * GB, 0.06, "llama"), MemoryNeed(4 * GB, 0.15, "llama"), "high")


def row(second: int, **more: object) -> Observation:
    values = {
        "name": "ocr", "variant": "full", "spec_digest": "abc", "backend": "pod", "offer": "a", "gpu": "Tesla T4",
        "family": "llama", "outcome": "succeeded", "peak_vram_bytes": 11 * GB, "predicted_vram_bytes": 10 * GB,
        "vram_capacity_bytes": 16 * GB, "versions": '{"torch": "2.8.1+cu128"}',
        "at": f"2026-11-21T10:00:{second:02d}.000000Z",
    }  # fmt: skip
    return identified(Observation(**{**values, **more}))


def taught_need(journal):
    needs = {"full": NEED}
    return calibrated(learned(Reader(journal), needs), "ocr", "abc", needs)


def test_places_are_named_as_the_tables_name_them():
    subject = observed(row(0)).subject
    assert (subject.gpu, subject.stack, subject.family) == ("T4", "torch 2.8", "llama")
    assert observed(row(0, gpu="NVIDIA A100-SXM4", vram_capacity_bytes=None)).subject.gpu == "NVIDIA A100-SXM4"


def test_only_runs_that_went_through_or_ran_out_tell_of_memory():
    assert observed(row(0, outcome="failed")).vram is None
    assert observed(row(0, peak_vram_bytes=0)).vram is None
    out = observed(row(0, outcome="oom_gpu", vram_above_bytes=17 * GB)).vram
    assert out is not None
    assert (out.bytes_, out.censored) == (17 * GB, True)


def test_recorded_runs_correct_the_prediction(tmp_path):
    store = Store(tmp_path / "journal.sqlite")
    assert taught_need(tmp_path / "journal.sqlite") == {"full": NEED}
    add_observations(store, [row(0), row(1)])
    found = taught_need(tmp_path / "journal.sqlite")["full"]
    assert found.vram is not None
    assert found.vram.median_bytes == pytest.approx(11 * GB, rel=0.02)
    assert found.ram == NEED.ram


def test_an_oom_is_felt_by_the_next_plan(tmp_path):
    store = Store(tmp_path / "journal.sqlite")
    add_observations(store, [row(0, outcome="oom_gpu", vram_above_bytes=16 * GB)])
    found = taught_need(tmp_path / "journal.sqlite")["full"]
    assert found.vram is not None
    assert found.vram.p_oom(16 * GB) == 1.0


def test_a_backend_is_as_reliable_as_it_was(tmp_path):
    store = Store(tmp_path / "journal.sqlite")
    job = Job(id="a", name="a", budget_micros=0, priority="cost", spec="{}", options="{}", created_at="")
    add_job(store, job, "submitted")
    ends = [("pod", "succeeded"), ("pod", "oom_gpu"), ("pod", "lost"), ("vast", "no_capacity"), ("new", None)]
    with store.write() as session:
        for number, (backend, outcome) in enumerate(ends, 1):
            session.add(
                Attempt(
                    job_id="a",
                    number=number,
                    key=f"a-a{number}",
                    rank=1,
                    backend=backend,
                    offer="x",
                    variant="full",
                    micros_per_hour=0,
                    allowed_seconds=1.0,
                    reserved_micros=0,
                    started_at="",
                    outcome=outcome,
                )
            )
    found = reliability(Reader(tmp_path / "journal.sqlite"))
    assert found == {"pod": pytest.approx((2 + 20 * 0.97) / 23), "vast": pytest.approx(20 * 0.94 / 21)}
