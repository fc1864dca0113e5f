"""The worker: takes up unfinished jobs and carries each to its end in a thread of its own.

Several workers may run on one home. A job belongs to whoever holds its ``flock``; when a holder dies the lock is free
at once, and another worker takes the job up where the journal says it stands.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event as Flag

from orchestrator.clock import SystemClock, stamp
from orchestrator.config import Config
from orchestrator.home import Home
from orchestrator.lifecycle.bills import ask_for_bills
from orchestrator.lifecycle.job import run_job
from orchestrator.lifecycle.locks import is_held, presence, try_lock
from orchestrator.lifecycle.reaper import forget_strays, reap
from orchestrator.lifecycle.registry import Backends
from orchestrator.lifecycle.tools import Tools
from orchestrator.lifecycle.vault import Vault
from orchestrator.lifecycle.waking import started
from orchestrator.records.errors import JournalError, StaleRecord
from orchestrator.records.jobs import finish_job, unfinished_jobs
from orchestrator.records.states import JobState
from orchestrator.records.store import Store

LOOK_SECONDS = 0.05
"""How often a worker asks SQLite whether anything was committed: a few microseconds each."""

RETAKE_SECONDS = 1.0
"""How often it tries the locks of jobs that another worker held, in case that one has died."""

MANY = 10_000
"""More unfinished jobs than any worker looks at in one go."""

REAP_SECONDS = 300.0
"""How often it compares what is rented with what is recorded."""

HOUSE = "housekeeping"
"""Stands among the jobs under way; no job is called so, since their ids end in a hyphen and five characters."""

ALL = 1_000_000
"""More unfinished jobs than there are."""

log = logging.getLogger("gpujob.worker")


class Stopped(Exception):
    """The worker was told to stop. Runs go on by themselves; the next worker finds them."""


class WorkerClock(SystemClock):
    """The system's clock, whose waits end with Stopped once the worker is told to stop."""

    def __init__(self) -> None:
        self.stopping = Flag()

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``. Raises Stopped."""
        if self.stopping.wait(seconds):
            raise Stopped


def open_tools(home: Home) -> Tools:
    """Everything that carrying jobs needs, over one home."""
    home.ensure()
    clock = WorkerClock()
    return Tools(Store(home.journal), home, clock, Backends(home, Config(home.config), clock.sleep), Vault(home))


@dataclass
class Worker:
    """Carries jobs until told to stop, or until ``idle_seconds`` pass without work (None: for ever)."""

    tools: Tools
    threads: int
    idle_seconds: float | None
    _busy: dict[str, Future[None]] = field(default_factory=dict)
    _reaped: float = float("-inf")
    _housekeeper: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "house"))

    def run(self) -> None:
        """Work. Raises JournalError when nothing can be recorded any more; runs then go on by themselves."""
        with self._housekeeper, ThreadPoolExecutor(self.threads, thread_name_prefix="job") as pool:
            try:
                while self._another_round(pool):
                    pass
            except Stopped:
                log.info("stopped; runs go on by themselves")
            finally:
                self.stop()

    def stop(self) -> None:
        """Take up no more jobs and leave those under way to the next worker."""
        clock = self.tools.clock
        if isinstance(clock, WorkerClock):
            clock.stopping.set()

    def _another_round(self, pool: ThreadPoolExecutor) -> bool:
        """Work until idle. True if a job came in at the last moment.

        A client that commits a job while this worker holds its lock starts no other; so look once more after
        letting go of it, or that job would be left behind.
        """
        with presence(self.tools.home.worker_lock):
            started()
            self._until_idle(pool)
        again = bool(unfinished_jobs(self.tools.store, 1)) and not self._all_elsewhere()
        if again:
            self.tools.clock.sleep(LOOK_SECONDS)
        return again

    def _until_idle(self, pool: ThreadPoolExecutor) -> None:
        clock, watch = self.tools.clock, self.tools.store.watch()
        idle_since = looked = clock.monotonic()
        while True:
            now = clock.monotonic()
            if now - self._reaped >= REAP_SECONDS and HOUSE not in self._busy:
                self._busy[HOUSE] = self._housekeeper.submit(self._keep_house)
                self._drop_locks()
                self._reaped = now
            if watch.changed() or self._harvest() or now - looked >= RETAKE_SECONDS:
                self._take_up(pool)
                looked = now
            if self._busy:
                idle_since = now
            elif self.idle_seconds is not None and now - idle_since >= self.idle_seconds:
                return
            clock.sleep(LOOK_SECONDS)

    def _harvest(self) -> bool:
        """Drop what has ended; raise what ended a job's thread. True if there is room again."""
        ended = [job for job, future in self._busy.items() if future.done()]
        for job in ended:
            with suppress(Stopped):
                self._busy.pop(job).result()
        return bool(ended)

    def _take_up(self, pool: ThreadPoolExecutor) -> None:
        room = self.threads - len(self._busy.keys() - {HOUSE})
        for job in unfinished_jobs(self.tools.store, MANY) if room else ():
            if room and job not in self._busy and not is_held(self.tools.home.job_lock(job)):
                self._busy[job] = pool.submit(self._carry, job)
                room -= 1

    def _carry(self, job: str) -> None:
        with try_lock(self.tools.home.job_lock(job)) as mine:
            if mine:
                carry(self.tools, job)

    def _all_elsewhere(self) -> bool:
        jobs = unfinished_jobs(self.tools.store, ALL)
        return all(is_held(self.tools.home.job_lock(job)) for job in jobs)

    def _drop_locks(self) -> None:
        """Remove the lock files of finished jobs whose worker died before it could."""
        for path in self.tools.home.job_locks():
            with try_lock(path) as mine:
                if mine and self.tools.home.job_of_lock(path) not in unfinished_jobs(self.tools.store, ALL):
                    path.unlink(missing_ok=True)

    def _keep_house(self) -> None:
        """Give back what nobody owns, ask for bills; in a thread of its own, since providers may be slow to answer."""
        try:
            forget_strays(self.tools)
            for line in reap(self.tools):
                log.info("reaper: %s", line)
            ask_for_bills(self.tools)
        except (Stopped, JournalError):
            raise
        except Exception:  # a fault of a backend must not end the jobs of the others
            log.exception("housekeeping")


def carry(tools: Tools, job: str) -> None:
    """Carry one job whose lock is held. A fault of ours ends the job with a word, not the worker."""
    try:
        run_job(tools, job)
    except Stopped:
        return
    except StaleRecord as stale:
        log.info("%s: %s", job, stale)
    except JournalError:
        raise
    except Exception:  # the last line of defence of a thread that many jobs share
        log.exception("%s: internal error", job)
        summary = f"internal error, kept in {tools.home.worker_log}; `gpujob resume {job}` goes on where it stopped"
        finish_job(tools.store, job, JobState.FAILED, "internal_error", summary, stamp(tools.clock.now()))
    else:
        tools.home.job_lock(job).unlink(missing_ok=True)
