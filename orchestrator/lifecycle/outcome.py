"""What an ended attempt's outcome was, and by which evidence: one pure function, ``classify``.

The rules are tried in the order of ``_RULES`` and the first that speaks decides. Who stopped the run comes
before anything that a signal could mean; the kernel's word comes before the log's, the log's before the
samples'. ``docs/outcomes.md`` says the same in prose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from backends.runner.runner import PREFLIGHT_REFUSES
from backends.units import format_duration, format_size
from orchestrator.lifecycle.evidence import SIGBUS, SIGKILL, Case, largest, signal_name
from orchestrator.lifecycle.exit_facts import ExitFacts, UnexplainedSigkill
from orchestrator.lifecycle.last_words import Symptom, Words, read_log

__all__ = ["ExitFacts", "Outcome", "UnexplainedSigkill", "Verdict", "classify"]

_ASKING_SIGNALS = frozenset({1, 2, 15})
"""By which people and init systems end a process: SIGHUP, SIGINT, SIGTERM."""


class Outcome(StrEnum):
    """How an attempt ended; every ended attempt has exactly one."""

    SUCCEEDED = "succeeded"
    """The command exited with 0 by itself."""
    OOM_HOST = "oom_host"
    """It needed more RAM (or ``/dev/shm``) than it could have, and there is evidence for it."""
    OOM_GPU = "oom_gpu"
    """It needed more GPU memory than the GPU has."""
    KILLED = "killed"
    """A signal that we did not send ended it, without evidence of memory pressure."""
    DISK_FULL = "disk_full"
    """It could not write: the disk or the quota is full."""
    PREEMPTED = "preempted"
    """The provider took the machine back."""
    DEADLINE = "deadline"
    """The runner stopped it: its time was over, or it sat idle for too long."""
    BUDGET = "budget"
    """We stopped it because the job's money was spent."""
    CANCELLED = "cancelled"
    """The user stopped it, or we did for the user."""
    LOST = "lost"
    """The machine or the runner is gone, and nobody saw how the run ended; or the machine was shut down under it."""
    UNREACHABLE = "unreachable"
    """The machine could not be reached until we gave it up, or is not what is paid for."""
    NO_CAPACITY = "no_capacity"
    """No machine could be had. Decided where machines are rented: there is no run to classify."""
    FAILED = "failed"
    """The user's program or its setup failed by itself; trying it elsewhere would not help."""

    @property
    def is_memory(self) -> bool:
        """Whether memory ran out, so that the need is known to be above what there was."""
        return self in (Outcome.OOM_HOST, Outcome.OOM_GPU)

    def walks_ladder(self, unexplained_sigkill: UnexplainedSigkill = "treat_as_oom") -> bool:
        """Whether the next attempt of the plan is worth trying. ``killed`` is, unless the spec says ``fail``."""
        if self is Outcome.KILLED:
            return unexplained_sigkill == "treat_as_oom"
        return self.is_memory or self in _ELSEWHERE_HELPS


_ELSEWHERE_HELPS = (Outcome.PREEMPTED, Outcome.LOST, Outcome.UNREACHABLE, Outcome.NO_CAPACITY)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, why, and what it teaches about the need.

    ``signal`` is the one that ended the command, also behind an exit code such as 137. ``observed_ram_bytes``
    and ``observed_vram_bytes`` are lower bounds on the need: what was used, or what was not enough. ``ram_above_bytes``
    and ``vram_above_bytes`` are there only if the run was out of that memory: they were not enough.
    """

    outcome: Outcome
    summary: str
    evidence: tuple[str, ...]
    exit_code: int | None = None
    signal: int | None = None
    observed_ram_bytes: int | None = None
    observed_vram_bytes: int | None = None
    ram_above_bytes: int | None = None
    vram_above_bytes: int | None = None


def classify(facts: ExitFacts) -> Verdict:
    """The one outcome of an ended attempt, with its evidence. Never raises, whatever the record holds."""
    case = Case(facts, read_log(facts.stdout_tail, facts.stderr_tail))
    ruling = next(ruling for rule in _RULES if (ruling := rule(case)) is not None)
    return Verdict(
        outcome=ruling.outcome,
        summary=ruling.summary[:1].upper() + ruling.summary[1:],
        evidence=ruling.evidence,
        exit_code=facts.exit_code,
        signal=facts.death_signal,
        observed_ram_bytes=ruling.ram_above or case.peak_ram,
        observed_vram_bytes=ruling.vram_above or case.peak_vram,
        ram_above_bytes=ruling.ram_above,
        vram_above_bytes=ruling.vram_above,
    )


@dataclass(frozen=True, slots=True)
class _Ruling:
    """One rule's word. ``ram_above`` and ``vram_above`` are what it proves not to have been enough."""

    outcome: Outcome
    summary: str
    evidence: tuple[str, ...]
    ram_above: int | None = None
    vram_above: int | None = None


# --- Ended well, or by us


def _finished(case: Case) -> _Ruling | None:
    """Exit 0 by itself: also with an OOM text in the log (it was caught) or a stop that came too late."""
    facts = case.facts
    if not facts.ended or facts.stopped_by or facts.exit_code != 0 or facts.death_signal:
        return None
    after = "" if facts.run_seconds is None else f" after {format_duration(facts.run_seconds)}"
    return _Ruling(Outcome.SUCCEEDED, f"succeeded{after}", (f"the command exited with code 0{after}",))


def _cancelled(case: Case) -> _Ruling | None:
    """The user's word is final: nothing new may start, even if the run had run out of memory by itself."""
    if not case.facts.cancelled:
        return None
    return _stopped(case, Outcome.CANCELLED, "cancelled by the user")


def _over_cap(case: Case) -> _Ruling | None:
    facts = case.facts
    if facts.stopped_by != "memory_cap":
        return None
    cap = f" of {format_size(facts.memory_cap_bytes)}" if facts.memory_cap_bytes else ""
    said = f"the runner's memory watch killed the job (SIGKILL) at its cap{cap}"
    return _out_of_ram(case, f"out of memory: over its cap{cap}", said)


def _hung_after_kernel_kill(case: Case) -> _Ruling | None:
    """A run whose worker was killed for memory often hangs until the idle rule ends it."""
    if case.facts.stopped_by != "idle" or not case.facts.oom_kills_in_cap:
        return None
    said = (*case.kills_in_cap, "the rest of the job then sat idle until the idle rule stopped it")
    return _out_of_ram(case, "out of memory: the kernel killed a process of the job, and the rest hung", *said)


_STOPS = {
    "deadline": (Outcome.DEADLINE, "its allowed time was over"),
    "lease": (Outcome.DEADLINE, "the time that this machine was reserved for was over"),
    "idle": (Outcome.DEADLINE, "it did nothing for longer than its idle limit"),
    "shutdown": (Outcome.LOST, "its machine was shutting down, or somebody ended the runner"),
}
_REASONS = {
    "cancelled": (Outcome.CANCELLED, "cancelled by the user"),
    "budget": (Outcome.BUDGET, "going on would have overspent the budget"),
    "deadline": (Outcome.DEADLINE, "its allowed time was over"),
    "preempted": (Outcome.PREEMPTED, "the provider announced to take the machine back"),
}


def _stopped_by_us(case: Case) -> _Ruling | None:
    facts = case.facts
    if facts.budget_stop and (facts.stopped_by or not facts.ended):
        return _stopped(case, *_REASONS["budget"])
    if not facts.stopped_by:
        return None
    reason = facts.stop_reason or facts.stopped_by
    unknown = (Outcome.CANCELLED, f"the runner was asked to ({reason})")
    return _stopped(case, *(_REASONS.get(reason) or _STOPS.get(facts.stopped_by) or unknown))


def _stopped(case: Case, outcome: Outcome, why: str) -> _Ruling:
    seconds = case.facts.run_seconds
    ran = () if seconds is None else (f"it had run for {format_duration(seconds)}",)
    words = (case.words.quote,) if case.words else ()
    ended, by = ("lost", "ended from outside") if outcome is Outcome.LOST else ("stopped", "stopped by us")
    return _Ruling(outcome, f"{ended}: {why}", (f"{by}: {why}", *ran, *case.kills_in_cap, *words))


def _refused_by_preflight(case: Case) -> _Ruling | None:
    """Traced on the machine and found too large for its GPU: out of memory before anything long was paid for."""
    facts = case.facts
    if not facts.ended or facts.failed_phase != "preflight" or facts.exit_code != PREFLIGHT_REFUSES:
        return None
    said = (case.log.last_line, "the preflight traced two steps of the model on this machine; the command never ran")
    above = facts.preflight_vram_bytes or facts.vram_total_bytes
    return _Ruling(Outcome.OOM_GPU, "too large for this GPU, as its preflight shows", said, vram_above=above)


# --- No exit record, and the provider's doing


def _taken_back(case: Case) -> _Ruling | None:
    return _preemption(case) if case.facts.preempted and not case.facts.ended else None


def _taken_back_at_the_end(case: Case) -> _Ruling | None:
    """A machine that is taken back ends its programs in many ways; only an OOM explains them better."""
    return _preemption(case) if case.facts.preempted else None


def _preemption(case: Case) -> _Ruling:
    said = "the provider took the machine back"
    return _Ruling(Outcome.PREEMPTED, f"preempted: {said}", (said, *case.how_it_ended))


def _out_of_reach(case: Case) -> _Ruling | None:
    if case.facts.ended or not case.facts.unreachable:
        return None
    said = "the machine stopped answering, and nobody saw how the run ended"
    return _Ruling(Outcome.UNREACHABLE, "the machine could not be reached", (said, *case.memory))


def _lost(case: Case) -> _Ruling | None:
    facts = case.facts
    if facts.ended:
        return None
    gone = "the machine is gone" if facts.machine_gone else "the runner is gone without an exit record"
    return _Ruling(Outcome.LOST, f"lost: {gone}", (gone, *case.memory))


# --- Memory and disk


def _killed_by_kernel(case: Case) -> _Ruling | None:
    """The kernel counts what it killed in a cgroup, by whichever OOM killer; 0 there means: not of this job."""
    facts, summary = case.facts, "out of memory: killed by the kernel"
    if facts.oom_kills_in_cap:
        other_cause = case.is_gpu_oom and not case.sigkilled
        return None if other_cause else _out_of_ram(case, summary, *case.kills_in_cap, *case.how_it_ended)
    if facts.oom_kills_in_cap is None and facts.oom_kills_on_machine and case.sigkilled and case.likely_victim:
        return _out_of_ram(case, summary, *case.kills_on_machine, *case.how_it_ended)
    return None


def _last_words(case: Case) -> _Ruling | None:
    """The log of an ended run ends in a complaint about memory or disk that nothing later in it overrules."""
    words = case.words
    if words is None or not case.facts.ended:
        return None
    if case.is_gpu_oom:
        return _out_of_vram(case, words)
    if case.says(Symptom.HOST_MEMORY, Symptom.DEVICE_MEMORY):
        return _out_of_ram(case, "out of memory: RAM could not be allocated", words.quote)
    if case.says(Symptom.SHARED_MEMORY) or (case.says(Symptom.DISK) and case.shm_is_full):
        return _out_of_shm(case, words.quote)
    return _out_of_disk(case, words.quote) if case.says(Symptom.DISK) else None


def _worker_killed(case: Case) -> _Ruling | None:
    """Somebody took one worker and spared its parent: the OOM killer, unless the kernel counted no kill."""
    facts, words = case.facts, case.words
    kernel_denies = 0 in (facts.oom_kills_in_cap, facts.oom_kills_on_machine)
    if words is None or words.symptom is not Symptom.WORKER_KILLED or kernel_denies or not facts.ended:
        return None
    said = "SIGKILL took one worker, not by us, and spared its parent, as the OOM killer does"
    return _out_of_ram(case, "out of memory: a worker process was killed", words.quote, said)


def _killed_at_limit(case: Case) -> _Ruling | None:
    """SIGKILL, or a runner that vanished, with RAM at its limit."""
    if not case.ram_at_limit or (case.facts.ended and not case.sigkilled):
        return None
    return _out_of_ram(case, "out of memory: killed with its RAM at the limit", *case.how_it_ended)


def _bus_error(case: Case) -> _Ruling | None:
    if case.facts.death_signal != SIGBUS or not case.shm_is_full:
        return None
    return _out_of_shm(case, *case.how_it_ended)


def _nothing_left_on_disk(case: Case) -> _Ruling | None:
    if not case.disk_is_full or not case.facts.ended or case.sigkilled:
        return None
    return _out_of_disk(case, *case.how_it_ended)


def _out_of_ram(case: Case, summary: str, *said: str) -> _Ruling:
    """The need is above the limit, and above what was in use plus what was asked for."""
    wanted = case.words.requested_bytes if case.words and case.says(Symptom.HOST_MEMORY) else 0
    above = largest(case.facts.ram_limit_bytes, wanted and (case.peak_ram or 0) + wanted)
    return _Ruling(Outcome.OOM_HOST, f"{summary}{case.during}", (*said, *case.memory), ram_above=above)


def _out_of_vram(case: Case, words: Words) -> _Ruling:
    wanted = words.requested_bytes
    above = largest(case.facts.vram_total_bytes, wanted and (case.peak_vram or 0) + wanted)
    said = (words.quote, *case.memory)
    return _Ruling(Outcome.OOM_GPU, f"out of GPU memory{case.during}", said, vram_above=above)


def _out_of_shm(case: Case, *said: str) -> _Ruling:
    """No bound on RAM follows: ``/dev/shm`` has a size of its own."""
    free = case.facts.shm_free_bytes
    left = "" if free is None else f"; {format_size(max(free, 0))} was free at the end"
    why = f"the shared memory that worker processes use (/dev/shm) was too small{left}"
    return _Ruling(Outcome.OOM_HOST, f"out of shared memory (/dev/shm){case.during}", (*said, why))


def _out_of_disk(case: Case, *said: str) -> _Ruling:
    free = case.facts.disk_free_bytes
    left = () if free is None else (f"{format_size(max(free, 0))} was free on the job's disk at the end",)
    return _Ruling(Outcome.DISK_FULL, f"the disk is full{case.during}", (*said, *left))


# --- What nobody can explain, and plain failures


def _killed(case: Case) -> _Ruling | None:
    facts = case.facts
    if not case.sigkilled and facts.death_signal not in _ASKING_SIGNALS:
        return None
    name = signal_name(SIGKILL if case.sigkilled else facts.death_signal)
    doubt = "" if case.ram_at_limit else ", and there is no sign of memory pressure"
    unclear = tuple(f"{said}, but nothing says that it was the job's" for said in case.kills_on_machine)
    treated = f"the spec's unexplained_sigkill says {facts.unexplained_sigkill}"
    said = (*case.how_it_ended, f"the {name} was not ours{doubt}", *unclear, *case.memory, treated)
    return _Ruling(Outcome.KILLED, f"killed by {name}, and not by us{case.during}", said)


def _failed(case: Case) -> _Ruling:
    how, *line = case.how_it_ended or ("no exit code was recorded",)
    return _Ruling(Outcome.FAILED, f"{how} ({line[0]})" if line else how, (how, *line))


_RULES: tuple[Callable[[Case], _Ruling | None], ...] = (
    _finished,
    _cancelled,
    _over_cap,
    _hung_after_kernel_kill,
    _stopped_by_us,
    _refused_by_preflight,
    _taken_back,
    _out_of_reach,
    _killed_by_kernel,
    _last_words,
    _taken_back_at_the_end,
    _worker_killed,
    _killed_at_limit,
    _bus_error,
    _nothing_left_on_disk,
    _lost,
    _killed,
    _failed,
)
