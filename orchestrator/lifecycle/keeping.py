"""Bringing checkpoints home while a rented machine runs, so that one that vanishes costs minutes and not the run."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from backends.base import Machine
from backends.failpoints import failpoint
from orchestrator.lifecycle.context import Context
from orchestrator.lifecycle.tenure import LAST_SECONDS, Tenure
from orchestrator.lifecycle.traffic import checkpoints_may_come, enough_words


class Late(Exception):
    """A copy that is still on its way when the run is over, or when enough has come."""


class Keeper:
    """Copies beside the watching, in a thread with a connection of its own, and never disturbs: what fails is tried
    again the next time. Only a copy that is whole takes the place of the one before.
    """

    def __init__(self, context: Context, tenure: Tenure) -> None:
        self._context = context
        self._tenure = tenure
        self._every = context.tools.setting("attempt.keep_every")
        self._next = context.tools.clock.monotonic() + self._every
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="keeper")
        self._copying: Future[None] | None = None
        self._placing = Lock()
        self._machine: Machine | None = None
        self._over = self._told = False

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is on its way is waited for while there is time: the fetch that follows need not bring it again. What
        is not here by then stays out: it is older than what will be fetched.
        """
        if self._copying and kind is None:
            wait([self._copying], timeout=max(0.0, self._tenure.seconds_left - 2 * LAST_SECONDS))
        with self._placing:
            self._over = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Begin a copy if it is time and none is under way."""
        now = self._context.tools.clock.monotonic()
        if self._tenure.own_machine or now < self._next or (self._copying and not self._copying.done()):
            return
        if not self._may_come():
            return
        self._next = now + self._every
        self._copying = self._pool.submit(self._copy)  # its errors stay in it: nobody asks

    def _may_come(self) -> bool:
        """Whether more checkpoints are paid for; told once where not."""
        if checkpoints_may_come(self._tenure.price, self._context.traffic):
            return True
        if not self._told and self._context.spec.checkpoints:
            self._context.note("checkpoints", enough_words(self._tenure.price, self._context.traffic))
        self._told = True
        return False

    def _copy(self) -> None:
        context = self._context
        self._machine = machine = context.backend.connect(context.lease)
        incoming = context.folder / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        for path in context.spec.checkpoints:
            machine.pull(f"{context.key}/work/{path}", incoming / path, self._go_on)
        machine.pull(f"{context.key}/samples.jsonl", context.folder / "samples.jsonl", self._go_on)
        record = dict(machine.status(context.key).record)
        with self._placing:
            self._go_on()
            self._place(incoming, record)

    def _place(self, incoming: Path, record: dict[str, Any]) -> None:
        """Let what has come take the place of what came before."""
        context = self._context
        if any(incoming.iterdir()):
            _swap_in(incoming, context.tools.home.checkpoints(context.job.id, context.attempt.number))
        draft = context.folder / "status.json.draft"
        draft.write_text(json.dumps(record), encoding="utf-8")
        draft.replace(context.folder / "status.json")

    def _go_on(self, done: int = 0, total: int = 0) -> None:
        """Raises Late, which ends a copy, once the watching is over or enough has come."""
        del done, total
        self._context.traffic.heard(self._machine)
        if self._over or not checkpoints_may_come(self._tenure.price, self._context.traffic):
            raise Late


def _swap_in(incoming: Path, place: Path) -> None:
    """Make ``place`` what has come, by links, not copies. A crash in between is mended by ``mend_checkpoints``."""
    fresh, old = _beside(place)
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(incoming, fresh, copy_function=os.link)
    failpoint("keep:copied")
    if place.exists():
        place.rename(old)
        failpoint("keep:moved")
    fresh.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def mend_checkpoints(place: Path) -> None:
    """After a crash: a copy that was about to take its place takes it, and nothing else is left beside it."""
    fresh, old = _beside(place)
    if old.exists() and not place.exists():
        (fresh if fresh.exists() else old).rename(place)
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)


def _beside(place: Path) -> tuple[Path, Path]:
    return place.with_name("checkpoints.new"), place.with_name("checkpoints.old")
