"""An ended attempt read as a case: the facts, its log, and the sentences that state them as evidence."""

from __future__ import annotations

from dataclasses import dataclass

from backends.units import format_size
from orchestrator.lifecycle.exit_facts import ExitFacts
from orchestrator.lifecycle.last_words import Log, Symptom, Words

SIGBUS, SIGKILL = 7, 9
_SIGNAL_NAMES = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
    11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ",
}  # fmt: skip
_NOT_RUN = {126: "the command is not executable", 127: "command not found"}

_FULL_PERCENT = 95
"""Memory in use at which a SIGKILL counts as explained by it."""
_LIKELY_VICTIM_PERCENT = 25
"""The kernel kills the largest process: below this share of the RAM a job is hardly the one it chose."""
NEARLY_NONE = 16 * 2**20
"""Free bytes of a file system below which it counts as full."""


@dataclass(frozen=True, slots=True)
class Case:
    """The facts about an attempt with its log already read."""

    facts: ExitFacts
    log: Log

    @property
    def words(self) -> Words | None:
        """The last complaint of the log that nothing overrules."""
        return self.log.words

    def says(self, *symptoms: Symptom) -> bool:
        """Whether the log ends in one of these complaints."""
        return self.words is not None and self.words.symptom in symptoms

    @property
    def sigkilled(self) -> bool:
        """Whether SIGKILL ended the command or, by its log, a process of it."""
        named = self.says(Symptom.WORKER_KILLED, Symptom.CHILD_KILLED)
        return self.facts.death_signal == SIGKILL or named

    @property
    def is_gpu_oom(self) -> bool:
        """Whether the log ends in an allocation that failed on a GPU."""
        total = self.facts.vram_total_bytes
        return (
            self.says(Symptom.GPU_MEMORY)
            or (self.says(Symptom.DEVICE_MEMORY) and bool(total))
            or (self.says(Symptom.GPU_LIBRARY) and _reaches(_FULL_PERCENT, self.peak_vram, total))
        )

    @property
    def peak_ram(self) -> int | None:
        """The most RAM that any sample or the kernel's own mark saw."""
        return largest(self.facts.peak_ram_bytes, self.facts.ram_bytes)

    @property
    def peak_vram(self) -> int | None:
        """The most GPU memory that any sample saw."""
        return largest(self.facts.peak_vram_bytes, self.facts.vram_bytes)

    @property
    def ram_at_limit(self) -> bool:
        """Whether RAM was seen at 95 % or more of what the run could have."""
        return _reaches(_FULL_PERCENT, self.peak_ram, self.facts.ram_limit_bytes)

    @property
    def likely_victim(self) -> bool:
        """Whether the job held enough of the machine's RAM to be the process that the kernel would choose."""
        return _reaches(_LIKELY_VICTIM_PERCENT, self.peak_ram, self.facts.ram_total_bytes)

    @property
    def shm_is_full(self) -> bool:
        """Whether ``/dev/shm`` had next to nothing left."""
        return _nearly_none(self.facts.shm_free_bytes)

    @property
    def disk_is_full(self) -> bool:
        """Whether the job's disk had next to nothing left."""
        return _nearly_none(self.facts.disk_free_bytes)

    @property
    def during(self) -> str:
        """``" during setup"`` where the setup failed, else nothing."""
        return " during setup" if self.facts.failed_phase == "setup" else ""

    @property
    def kills_in_cap(self) -> tuple[str, ...]:
        """What the kernel killed in the job's cgroup, by its own count."""
        count = self.facts.oom_kills_in_cap
        if not count:
            return ()
        return (f"the kernel's OOM killer ended {_processes(count)} of the job (its cgroup's oom_kill counter)",)

    @property
    def kills_on_machine(self) -> tuple[str, ...]:
        """What the kernel killed anywhere on the machine while the job ran: the job's processes, or others."""
        count = self.facts.oom_kills_on_machine
        if not count:
            return ()
        return (f"the kernel's OOM killer ended {_processes(count)} on this machine while the job ran",)

    @property
    def how_it_ended(self) -> tuple[str, ...]:
        """How the run itself ended, and its last line; nothing where no exit record says it."""
        facts, number = self.facts, self.facts.death_signal
        if not facts.ended or (facts.exit_code is None and number is None):
            return ()
        subject = "setup" if self.during else "the command"
        code = "" if facts.exit_code is None else f"code {facts.exit_code}"
        end = f"was ended by {signal_name(number)}" if number else f"exited with {code}"
        notes = f" ({code or f'exit -{number}'})" if number else ""
        meaning = _NOT_RUN.get(facts.exit_code or 0)
        said = f"{subject} {end}{notes}" + (f": {meaning}" if meaning else "")
        return (said, self.log.last_line) if self.log.last_line else (said,)

    @property
    def memory(self) -> tuple[str, ...]:
        """What was used of RAM and GPU memory, as far as it is known."""
        return (*self._ram, *self._vram)

    @property
    def _ram(self) -> tuple[str, ...]:
        facts, limit = self.facts, self.facts.ram_limit_bytes
        capped = limit is not None and limit == facts.memory_cap_bytes
        name = "cap" if capped else "machine's RAM"
        by = f" ({facts.memory_cap_means})" if capped and facts.memory_cap_means else ""
        if _reaches(_FULL_PERCENT, facts.ram_bytes, limit):
            return _used("RAM", facts.ram_bytes, limit, f"{name}{by} in the last sample")
        return _used("RAM", self.peak_ram, limit, f"{name}{by} at its peak")

    @property
    def _vram(self) -> tuple[str, ...]:
        return _used("GPU memory", self.peak_vram, self.facts.vram_total_bytes, "GPU at its peak")


def largest(*sizes: int | None) -> int | None:
    """The largest of the sizes that are known and positive."""
    return max((size for size in sizes if size and size > 0), default=None)


def signal_name(number: int | None) -> str:
    """The name that Linux gives the signal."""
    return _SIGNAL_NAMES.get(number or 0, f"signal {number}")


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _used(what: str, used: int | None, limit: int | None, of_what: str) -> tuple[str, ...]:
    if not used or not limit or used < 0 or limit < 0:
        return ()
    return (f"{what} was {format_size(used)} of the {format_size(limit)} {of_what}",)


def _reaches(percent: int, used: int | None, limit: int | None) -> bool:
    return used is not None and limit is not None and limit > 0 and used * 100 >= limit * percent


def _nearly_none(free: int | None) -> bool:
    return free is not None and free < NEARLY_NONE
