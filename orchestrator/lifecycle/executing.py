"""The run of one attempt: started, watched, ended at its limits, and let alone while its machine is out of reach."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from backends.base import (
    AuthError,
    BackendError,
    Fate,
    Gone,
    Lost,
    Machine,
    NotYetReady,
    RunPhase,
    RunStatus,
    Transient,
)
from backends.failpoints import failpoint
from backends.runner.runner import read_record
from backends.units import format_duration
from orchestrator.lifecycle.context import Context
from orchestrator.lifecycle.endings import Cancelled
from orchestrator.lifecycle.following import copy_logs, write_live, write_waiting
from orchestrator.lifecycle.journal import Json
from orchestrator.lifecycle.keeping import Keeper
from orchestrator.lifecycle.tenure import Tenure

SHORTEST_POLL, LONGEST_POLL = 0.02, 0.5
"""Seconds between two looks at a run on this machine; the wait grows from one to the other."""

LONGEST_REMOTE_POLL = 2.0
"""The same for a rented machine, where a look takes time and bandwidth."""

LONGEST_SILENCE = 15.0
"""Seconds between two tries to reach a machine that does not answer."""

SILENT_SECONDS = 900.0
"""A runner on a rented machine that neither writes its record nor a log for so long, or for the idle limit, is dead."""

CANCEL_SECONDS = 60.0
"""A cancelled run on a machine that has been silent for so long is given up with its machine."""

OUT_OF_REACH = (Transient, NotYetReady, Lost, AuthError)
"""A key that is refused ends no run either: the user can mend it meanwhile."""


@dataclass
class Execution:
    """Watches one run to its end. What it found out before a crash is found out again."""

    context: Context
    _machine: Machine | None = None
    _last: RunStatus = field(default_factory=lambda: RunStatus(RunPhase.ABSENT))
    _silent_since: float | None = None
    _life: tuple[Any, float] | None = None
    _new_log_bytes: int = 0

    def carry(self) -> Json:
        """The step's effect: how the run stands at its end, with the runner's record and what became of the machine.

        Trouble in reaching this machine is the journal's to repeat; a rented one is asked until its time is up.
        """
        tenure = self.context.tenure
        with Keeper(self.context, tenure) as keeper:
            pause = SHORTEST_POLL
            while True:
                ending = self._turn(tenure, keeper)
                if ending is not None:
                    return ending
                if self._silent_since is None:
                    pause = min(LONGEST_POLL if tenure.own_machine else LONGEST_REMOTE_POLL, pause * 1.5)
                else:
                    pause = min(LONGEST_SILENCE, max(1.0, pause * 1.5))
                until_the_end = pause if tenure.own_machine else max(SHORTEST_POLL, tenure.seconds_left)
                self.context.tools.clock.sleep(min(pause, until_the_end))

    def _turn(self, tenure: Tenure, keeper: Keeper) -> Json | None:
        """One look, and what follows from it; the result of the step once the run is over for us."""
        try:
            status = self._look()
        except OUT_OF_REACH as error:
            if tenure.own_machine:
                raise
            self._machine = None
            return self._unseen(error) or self._too_late(tenure)
        except Gone as gone:
            return self._without_machine(gone.fate)
        self._seen(status)
        if status.over:
            return self._result(status.phase)
        if status.phase is RunPhase.ABSENT:  # it was started: somebody has removed its directory since
            return self._result(RunPhase.LOST)
        self._end_if_asked(tenure)
        keeper.look()
        return self._too_late(tenure) or self._dead(tenure)

    def _look(self) -> RunStatus:
        """Reach the machine if need be, start the run if it is not started, and read where it stands."""
        context, key = self.context, self.context.key
        if self._machine is None:
            # While it is silent one try at a time is enough: the end of the reservation must not pass meanwhile.
            backend = context.backend if self._silent_since is None else context.backend.unpatient
            machine = backend.connect(context.lease)
            if machine.status(key).phase is RunPhase.ABSENT:
                if self._last.phase is not RunPhase.ABSENT:
                    return RunStatus(RunPhase.ABSENT)
                context.stop_if_cancelled()  # a run that an earlier worker began is asked to end instead
            machine.start(key, context.secrets)  # also where it is started already: the watchdog may be dead
            failpoint("execute:started")
            self._machine = machine
        status = self._machine.status(key)
        self._watch(self._machine, status)
        return status

    def _watch(self, machine: Machine, status: RunStatus) -> None:
        context = self.context
        with suppress(OSError):  # no room to look on here must not end the run; its logs are fetched at its end
            self._new_log_bytes = copy_logs(machine, context.key, context.folder)
            write_live(context.tools.home.live(context.job.id), context.attempt, status)
        context.traffic.heard(machine)
        failpoint("execute:watched")

    def _seen(self, status: RunStatus) -> None:
        clock = self.context.tools.clock
        if self._silent_since is not None:
            away = format_duration(self._silent_seconds)
            self.context.note("reached", f"the machine answers again after {away}; the run went on meanwhile")
            self._silent_since = None
        if self._life is None or self._new_log_bytes or status.record.get("heartbeat") != self._life[0]:
            self._life = status.record.get("heartbeat"), clock.monotonic()
        if status.phase is not RunPhase.ABSENT:
            self._last = status

    def _unseen(self, error: BackendError) -> Json | None:
        """The machine does not answer. That does not touch the run: say so once, and ask the provider what it knows."""
        context = self.context
        if self._silent_since is None:
            self._silent_since = context.tools.clock.monotonic()
            context.note(
                "unreachable",
                f"the machine does not answer ({error}); its run goes on by itself, and it is asked again until the"
                " time that is reserved for it is over",
            )
        with suppress(OSError):
            write_waiting(context.tools.home.live(context.job.id), context.attempt, "the machine does not answer")
        if context.cancel_requested and self._silent_seconds > CANCEL_SECONDS:
            if self._last.phase is RunPhase.ABSENT:
                raise Cancelled("cancelled while the machine did not answer")
            return self._result(self._last.phase, cancelled=True)
        fate = self._fate()
        return None if fate in (None, Fate.ALIVE) else self._without_machine(fate)

    @property
    def _silent_seconds(self) -> float:
        since = self._silent_since
        return 0.0 if since is None else self.context.tools.clock.monotonic() - since

    def _fate(self) -> Fate | None:
        """What the provider says of the machine; None where it cannot say."""
        if (fated := self.context.backend.fated) is None:
            return None
        try:
            return fated.fate(self.context.lease)
        except BackendError:
            return None

    def _without_machine(self, fate: Fate) -> Json:
        """The machine is over. What was seen of the run last is all that will ever be known."""
        facts = {"preempted": True} if fate is Fate.PREEMPTED else {"machine_gone": True}
        with suppress(BackendError):
            if left := self.context.backend.remains(self.context.lease):
                self._seen(left.status(self.context.key))
                if self._last.phase is RunPhase.ENDED:
                    return self._result(RunPhase.ENDED)
        phase = self._last.phase if self._last.phase is RunPhase.ENDED else RunPhase.LOST
        return self._result(phase, **facts)

    def _too_late(self, tenure: Tenure) -> Json | None:
        """The reservation is used up: nothing more may be spent, whatever state the run is in."""
        if not tenure.is_over:
            return None
        if self._silent_since is not None:
            return self._result(RunPhase.LOST, unreachable=True)
        return self._result(self._last.phase, budget_stop=True)

    def _dead(self, tenure: Tenure) -> Json | None:
        """Whether the runner there has given no sign of life for too long, though the machine answers."""
        if self._life is None or tenure.own_machine:
            return None
        silent = self.context.tools.clock.monotonic() - self._life[1]
        if silent < max(SILENT_SECONDS, self.context.spec.limits.idle or 0.0):
            return None
        self.context.note(
            "silent", f"the machine answers, but its runner has been silent for {format_duration(silent)}"
        )
        return self._result(RunPhase.LOST)

    def _end_if_asked(self, tenure: Tenure) -> None:
        assert self._machine
        reason = None
        if self.context.cancel_requested:
            reason = "cancelled"
        elif tenure.run_is_over:
            reason = "deadline" if tenure.price.free else "budget"
        if reason:
            self._machine.signal(self.context.key, reason)

    def _result(self, phase: RunPhase, **facts: bool) -> Json:
        """What was seen last; by a worker before this one, if this one never saw anything."""
        record = self._last.record or read_record(str(self.context.folder / "status.json"))
        return {"phase": phase.value, "record": dict(record), "facts": facts}
