"""The quickstart job as a program of its own: its real requirements, its real data, the command lines of its spec."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.spec.load import load_spec

JOB = Path(__file__).parents[2] / "jobs" / "quickstart"
SPEC = yaml.safe_load((JOB / "quickstart.yaml").read_text())
CAP = 400_000_000
EXACT_NEEDS = 1_500_000_000


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of a virtual environment with the job's requirements, kept in pytest's cache."""
    requirements = (JOB / "requirements.txt").read_bytes()
    key = hashlib.sha256(requirements + sys.version.encode()).hexdigest()[:16]
    folder = request.config.cache.mkdir("quickstart") / key
    installed = folder / "installed"
    with (folder.parent / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test workers share one environment
        if not installed.exists():
            install(folder)
            installed.touch()
    return folder / "bin" / "python"


def install(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [str(folder / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*pip, "-r", str(JOB / "requirements.txt")], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED: pip cannot install the quickstart's requirements here: {done.stderr[-600:]}")


def run(python: Path, out: Path, **params: object) -> tuple[dict[str, Any], str]:
    """Run the spec's own command line with ``params`` over its own; returns its metrics and what it printed."""
    command = shlex.split(SPEC["run"].format(**(SPEC["params"] | params)))
    command[0], command[-1] = str(python), str(out)
    env = os.environ | SPEC["env"] | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=JOB, env=env, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads((out / "metrics.json").read_text()), done.stdout


def check(metrics: dict[str, Any], out: Path) -> None:
    """What must hold of every result."""
    matrix = metrics["confusion_matrix"]
    assert [len(row) for row in matrix] == [10] * 10
    assert sum(map(sum, matrix)) == metrics["n_test"]
    assert sum(matrix[label][label] for label in range(10)) == round(metrics["accuracy"] * metrics["n_test"])
    assert [scores["support"] for scores in metrics["per_class"]] == [sum(row) for row in matrix]
    for label, scores in enumerate(metrics["per_class"]):
        assert scores["recall"] == pytest.approx(matrix[label][label] / sum(matrix[label]))
    signature, width, height = struct.unpack(">8s8xII", (out / "confusion.png").read_bytes()[:24])
    assert (signature, width, height) == (b"\x89PNG\r\n\x1a\n", 1640, 1040)


def free_memory() -> int:
    """Bytes that a new process can have; a system that does not say is taken to have enough."""
    if sys.platform != "linux":
        return EXACT_NEEDS
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def test_compact_reads_well_far_below_the_cap(python: Path, tmp_path: Path) -> None:
    metrics, _ = run(python, tmp_path, features="compact")
    check(metrics, tmp_path)
    assert metrics["features"] == "compact"
    assert (metrics["n_train"], metrics["n_test"]) == (1078, 719)
    assert metrics["accuracy"] >= 0.98
    assert metrics["peak_rss_bytes"] < 0.7 * CAP


def test_exact_reads_best_and_needs_more_than_the_cap(python: Path, tmp_path: Path) -> None:
    if free_memory() < EXACT_NEEDS:
        pytest.skip("NOT TESTED: the exact variant needs 1.5 GB of free memory to run to its end")
    metrics, printed = run(python, tmp_path, features="exact")
    check(metrics, tmp_path)
    assert metrics["accuracy"] >= 0.99
    assert metrics["peak_rss_bytes"] > 2 * CAP
    held = [int(line.split()[-3]) for line in printed.splitlines() if line.endswith("MB held")]
    assert held == sorted(held)
    assert held[0] < 50
    assert held[-1] == 753


def test_smoke_settings_leave_a_whole_result(python: Path, tmp_path: Path) -> None:
    metrics, _ = run(python, tmp_path, **SPEC["smoke"]["params"])
    check(metrics, tmp_path)
    assert metrics["n_train"] + metrics["n_test"] == SPEC["smoke"]["params"]["limit"]


def test_two_runs_agree(python: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("one", "two")]
    one, two = (run(python, out, features="compact", limit=200)[0] for out in outs)
    measured = {"seconds": 0, "peak_rss_bytes": 0}
    assert one | measured == two | measured
    assert (outs[0] / "confusion.png").read_bytes() == (outs[1] / "confusion.png").read_bytes()


@pytest.mark.parametrize("wrong", [["--features", "best"], ["--limit", "20"], ["--limit", "many"]])
def test_wrong_arguments_are_refused(python: Path, tmp_path: Path, wrong: list[str]) -> None:
    command = [str(python), "-B", "evaluate.py", "--out", str(tmp_path / "results"), *wrong]
    done = subprocess.run(command, cwd=JOB, capture_output=True, text=True)
    assert done.returncode == 2
    assert wrong[0] in done.stderr
    assert not (tmp_path / "results").exists()


def test_spec_is_valid_and_gives_both_variants_the_same_cap() -> None:
    spec = load_spec(JOB / "quickstart.yaml")
    assert [variant.name for variant in spec.variants] == ["exact", "compact"]
    assert {spec.resolved(name).need.ram_bytes for name in ("exact", "compact")} == {CAP}
