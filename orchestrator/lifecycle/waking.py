"""Making sure that a worker is there, without loading what a worker needs."""

from __future__ import annotations

import os
import subprocess
import sys

from orchestrator.home import Home
from orchestrator.lifecycle.locks import anyone_present, is_held, try_descriptor

STARTING = "GPUJOB_STARTING"
"""Tells a new worker which descriptor holds the lock of its start."""


def worker_runs(home: Home) -> bool:
    """Whether any worker is alive on this home."""
    return anyone_present(home.worker_lock)


def worker_comes(home: Home) -> bool:
    """Whether any worker is alive on this home, or being started."""
    return worker_runs(home) or is_held(home.worker_start_lock) or worker_runs(home)


def ensure_worker(home: Home) -> None:
    """Start a background worker unless one is there or starting. It outlives this process and its terminal."""
    if worker_runs(home):
        return
    with try_descriptor(home.worker_start_lock) as starting:
        if starting is not None and not worker_runs(home):
            _start(home, starting)


def started() -> None:
    """Called by a worker once it is present: from now on that, and not its start, keeps others from starting one."""
    if starting := os.environ.pop(STARTING, None):
        os.close(int(starting))


def _start(home: Home, starting: int) -> None:
    """The lock goes with the new process: it is free when that worker says :func:`started`, or dies before it can."""
    with home.worker_log.open("ab") as file:
        subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", "worker", "--background"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd="/",
            env={**os.environ, "GPUJOB_HOME": str(home.root), STARTING: str(starting)},
            start_new_session=True,
            pass_fds=(starting,),
        )
