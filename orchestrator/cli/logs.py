"""``gpujob logs``: a job's output, whole or as it comes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from orchestrator.cli.growing import GrowingLog
from orchestrator.cli.screen import say
from orchestrator.cli.waker import Waker
from orchestrator.home import Home
from orchestrator.lifecycle.logs import LOGS
from orchestrator.records.reading import Reader
from orchestrator.records.states import JobState

LOOK_SECONDS = 0.2


def show_logs(home: Home, reader: Reader, job: str, attempt: int | None, *, follow: bool) -> int:
    """Print what an attempt (the last one, if not named) wrote; with ``follow``, go on until the job is over.

    Raises UnknownAttempt.
    """
    shown: dict[Path, GrowingLog] = {}
    waker = Waker(home)
    while True:
        final = JobState(reader.job(job)["state"]).final
        over = final or not follow
        for number in reader.numbers(job, attempt)[-1:]:
            for path in (home.attempt(job, number) / name for name in LOGS):
                shown.setdefault(path, GrowingLog(path, sys.stdout)).show_new(last=over)
        if over:
            return 0 if any(log.seen for log in shown.values()) else _nothing(job, final=final)
        if words := waker.look():
            print(words, file=sys.stderr, flush=True)
        time.sleep(LOOK_SECONDS)


def _nothing(job: str, *, final: bool) -> int:
    say(f"{job} has written nothing{'' if final else ' yet'}.")
    return 0
