"""Making sure that a worker is there, without loading what a worker needs."""

from __future__ import annotations

import os
import subprocess
import sys

from orchestrator.home import Home
from orchestrator.lifecycle.locks import anyone_present


def worker_runs(home: Home) -> bool:
    """Whether any worker is alive on this home."""
    return anyone_present(home.worker_lock)


def ensure_worker(home: Home) -> None:
    """Start a background worker unless one is there. It outlives this process and its terminal."""
    if worker_runs(home):
        return
    with home.worker_log.open("ab") as file:
        subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", "worker", "--background"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd="/",
            env={**os.environ, "GPUJOB_HOME": str(home.root)},
            start_new_session=True,
        )
