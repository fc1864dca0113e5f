"""What the runner is told, as a value."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from backends.base import Lease
from orchestrator.lifecycle.jobfile import build_jobfile, input_list, kept_environment
from orchestrator.lifecycle.tenure import WIND_DOWN_SECONDS, Until
from orchestrator.records.tables import Attempt
from orchestrator.spec.load import load_spec
from orchestrator.spec.model import JobSpec

SPEC = """
name: train
run: python train.py --batch {batch}
params: {batch: 8}
env: {OMP_NUM_THREADS: "2"}
secrets: [HF_TOKEN]
needs: {ram: 400 MB}
inputs:
  - {source: "https://example.org/m.bin", dest: models/, max_size: 10 MB}
limits: {runtime: 10m, idle: 5m, log_size: 1 MB}
"""


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    (tmp_path / "job.yaml").write_text(SPEC)
    return load_spec(tmp_path / "job.yaml")


def attempt(price: int = 0, allowed: float = 900.0) -> Attempt:
    return Attempt(
        job_id="train-abcde",
        number=1,
        key="train-abcde-a1",
        rank=1,
        backend="local",
        offer="cpu",
        variant="default",
        micros_per_hour=price,
        allowed_seconds=allowed,
        reserved_micros=0,
        ram_cap_bytes=400_000_000,
        started_at="2026-11-21T09:00:00.000000Z",
    )


def lease(**details: object) -> Lease:
    return Lease("train-abcde-a1", "local", "train-abcde-a1", datetime(2026, 11, 21, tzinfo=UTC), details)


def build(spec: JobSpec, lease: Lease, attempt: Attempt) -> dict:
    return build_jobfile(spec, spec.resolved("default"), attempt, lease, {"PATH": "/bin"}, None)


def test_it_says_what_to_run_and_within_which_limits(spec):
    told = build(spec, lease(lease_began=12.5), attempt())
    assert (told["key"], told["run"]) == ("train-abcde-a1", "python train.py --batch 8")
    assert told["limits"]["runtime"] == 600
    assert told["limits"]["idle"] == 300
    assert told["limits"]["lease"] == 900
    assert told["limits"]["lease_began_monotonic"] == 12.5
    assert told["limits"]["log_bytes"] == 1_000_000
    assert told["memory"]["cap_bytes"] == 400_000_000


def test_secrets_are_there_by_name_only(spec):
    assert build(spec, lease(), attempt())["secret_names"] == ["HF_TOKEN"]


def test_a_paid_run_ends_before_the_money_does(spec):
    assert build(spec, lease(), attempt(price=1_000_000))["limits"]["lease"] == 900 - WIND_DOWN_SECONDS
    assert build(spec, lease(), attempt(price=1_000_000, allowed=40.0))["limits"]["lease"] == 20


def test_a_job_on_this_machine_sees_the_gpus_that_it_holds_and_no_other(spec):
    assert build(spec, lease(own_machine=True, gpus=[1]), attempt())["env"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert build(spec, lease(own_machine=True, gpus=[]), attempt())["env"]["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in build(spec, lease(), attempt())["env"]


def test_inputs_are_fetched_by_the_program_that_is_sent_along(spec):
    assert build(spec, lease(python="/opt/my python"), attempt())["inputs"] == (
        "'/opt/my python' ../inputs.py ../inputs.json ."
    )
    assert input_list(spec, lease(input_cache="/cache")) == {
        "cache": "/cache",
        "inputs": [
            {"sources": ["https://example.org/m.bin"], "dest": "models/", "sha256": None, "max_size": 10_000_000}
        ],
    }


def test_a_local_job_gets_the_environment_of_its_terminal_without_surprises_or_credentials():
    given = {
        "HOME": "/home/u",
        "LC_ALL": "C",
        "PATH": "/submit/path",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PIP_INDEX_URL": "https://me:secret@pypi.example.org/simple",
        "PIP_CERT": "c",
    }
    assert kept_environment(given) == {
        "values": {"HOME": "/home/u", "LC_ALL": "C", "PATH": "/submit/path", "PIP_CERT": "c"},
        "withheld": ["PIP_INDEX_URL"],
    }


def test_a_preflight_is_told_only_where_the_spec_asks_for_one(spec):
    assert build(spec, lease(), attempt())["preflight"] is None
    told = build_jobfile(spec, spec.resolved("default"), attempt(), lease(), {}, None, preflight=True)["preflight"]
    assert told["seconds"] == 180
    assert told["command"].endswith("-m tracing preflight trace.json")


ENDS = datetime(2026, 11, 21, 12, tzinfo=UTC)
RENTED = {"jobs": "/jobs", "stop": ["halt"], "stop_pid1": "GPUJOB_KEY=train-abcde-a1", "place": "X"}


def test_a_rented_machine_is_told_when_and_how_to_end_itself(spec: JobSpec) -> None:
    file = build_jobfile(
        spec, spec.resolved("default"), attempt(10**6), lease(**RENTED), {}, None, Until(800, ENDS, 60)
    )
    assert file["machine"] == {
        "stop": ["halt"],
        "stop_pid1": "GPUJOB_KEY=train-abcde-a1",
        "linger": 1800.0,
        "ends_utc": ENDS.timestamp() - 5,
        "lease": 800 - 5,
    }
    assert (file["limits"]["lease"], file["limits"]["lease_ends_utc"]) == (740, ENDS.timestamp() - 60)


def test_this_machine_and_one_without_means_are_not_told_to_end_themselves(spec: JobSpec) -> None:
    assert build(spec, lease(own_machine=True), attempt())["machine"] is None
    plain = build_jobfile(spec, spec.resolved("default"), attempt(), lease(), {}, None, Until(800, ENDS, 60))
    assert plain["machine"] is None
