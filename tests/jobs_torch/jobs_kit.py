"""What the tests of jobs share: a job's own command, run as gpujob would run it, on this CPU and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from orchestrator.spec.load import load_spec
from orchestrator.spec.model import JobSpec
from orchestrator.spec.template import Value

JOBS = Path(__file__).parents[2] / "jobs"
TOLD = "told.json"
"""What the job tells gpujob, in the folder in which it ran."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def spec_of(job: str, **params: Value) -> JobSpec:
    """The spec in ``jobs/<job>``, which holds one."""
    (path,) = (JOBS / job).glob("*.yaml")
    return load_spec(path, {name: str(value) for name, value in params.items()})


def run_smoke(job: str, into: Path, variant: str = "", **params: Value) -> subprocess.CompletedProcess[str]:
    """Run the job's own command with its smoke settings, and ``params`` over them, in a copy of its folder at ``into``.

    A second run in the same folder finds what the first left there: that is how resuming is tested.
    """
    spec = spec_of(job)
    assert spec.smoke, f"{job} has no smoke settings"
    tiny = spec.smoke.model_copy(update={"params": {**spec.smoke.params, **params}})
    chosen = spec.resolved(variant or spec.variants[0].name, tiny)
    shutil.copytree(JOBS / job, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, **OFFLINE, "HF_HOME": str(into / ".hub"), "GPUJOB_METRICS": str(into / TOLD)}
    env |= {**chosen.env, "PATH": path}
    return subprocess.run(["/bin/sh", "-c", chosen.run], cwd=into, env=env, capture_output=True, text=True, timeout=150)
