"""Workers that die around the runtimes which Google's command line starts: wherever that is, the job runs once, and no
runtime is left over.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from crash_kit import Place, Zygote, check_whole

from backends.colab.backend import ColabBackend
from backends.colab.settings import Settings
from orchestrator.config import Config
from tests.emulators.colab_cli import BIN, Colab

EVERYWHERE = os.environ.get("GPUJOB_CRASH_STRIDE") == "1"
POINTS = ("colab.command:asked", "colab.command:stopped")
"""Where CI dies: a runtime that nobody has heard of yet, and one that is given back."""

INPUT = bytes(range(256)) * 64
SPEC: dict[str, Any] = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir -p results; cp input results/copy",
    "results": ["results/"],
    "secrets": ["CRASH_SECRET"],
    "limits": {"runtime": "1m"},
    "needs": {"gpu": "none", "ram": "100 MB"},
}

pytestmark = pytest.mark.timeout(1200)


def test_wherever_the_worker_dies_the_job_runs_once_and_no_runtime_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Colab(tmp_path / "colab")
    for name, value in {**account.env, "PATH": f"{BIN}:{os.environ['PATH']}", "CRASH_SECRET": "hush"}.items():
        monkeypatch.setenv(name, value)
    zygote = Zygote()
    try:
        trace = died_at(Place(tmp_path / "undisturbed"), zygote, 10**6, account)
        numbers = range(1, len(trace) + 1) if EVERYWHERE else [trace.index(name) + 1 for name in POINTS]
        for number in numbers:
            died_at(Place(tmp_path / f"at-{number}"), zygote, number, account)
    finally:
        zygote.close()
        account.close()


def died_at(place: Place, zygote: Zygote, number: int, account: Colab) -> list[str]:
    """The points that a worker reached which died at that one, if it came so far; another has finished its work."""
    Config(place.home.config).set("colab.plan", "payg")
    place.home.local.mkdir(exist_ok=True)
    job = place.submit(SPEC, {"input": INPUT}, backends=("colab",))
    status = zygote.worker(place, number)
    trace = place.trace()
    if status:
        assert status == -signal.SIGKILL, (place.home.root / "worker.out").read_text()
        assert zygote.worker(place) == 0, (place.home.root / "worker.out").read_text()
    where = (number, trace[-1:])
    assert place.outcomes(job) == ["succeeded"], where
    assert place.runs() == [f"{job}-a1"], where
    assert place.results(job, 1) == {"results/copy": INPUT}, where
    check_whole(place, job)
    assert account.up() == [], where
    backend = ColabBackend(place.home.root / "colab", Settings(credential=lambda: None, plan="payg"))
    assert (list(backend.records.all()), list(backend.owned())) == ([], []), where
    return trace
