"""What is already known when a plan is made: how earlier attempts of this job, and jobs like it, ended."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Seen:
    """One ended attempt. Capacities are what it had, peaks what it used; bytes, None where not known."""

    variant: str
    backend: str
    offer: str
    outcome: str
    ram_capacity_bytes: int | None = None
    vram_capacity_bytes: int | None = None
    peak_ram_bytes: int | None = None
    peak_vram_bytes: int | None = None
    run_seconds: float | None = None
    this_job: bool = False
    where: str = ""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Everything seen so far, oldest first; ``killed_counts`` says that an unexplained SIGKILL speaks like an OOM."""

    seen: tuple[Seen, ...] = ()
    killed_counts: bool = True

    def out_of_ram(self, variant: str) -> Seen | None:
        """The attempt that shows the largest RAM known to be too small for ``variant``."""
        outcomes = {"oom_host", "killed"} if self.killed_counts else {"oom_host"}
        return max(
            (s for s in self.seen if s.variant == variant and s.outcome in outcomes and s.ram_capacity_bytes),
            key=lambda s: s.ram_capacity_bytes or 0,
            default=None,
        )

    def out_of_vram(self, variant: str) -> Seen | None:
        """The attempt that shows the largest VRAM known to be too small for ``variant``."""
        return max(
            (s for s in self.seen if s.variant == variant and s.outcome == "oom_gpu" and s.vram_capacity_bytes),
            key=lambda s: s.vram_capacity_bytes or 0,
            default=None,
        )

    def ran_out(self, variant: str) -> bool:
        """Whether ``variant`` ran out of memory in this very job."""
        return any(
            s.this_job and s.variant == variant and s.outcome in ("oom_host", "oom_gpu", "killed") for s in self.seen
        )

    def last_of_this_job(self) -> Seen | None:
        """How this job's latest attempt ended."""
        return next((s for s in reversed(self.seen) if s.this_job), None)

    def successes(self, variant: str) -> tuple[Seen, ...]:
        """The attempts in which ``variant`` went through."""
        return tuple(s for s in self.seen if s.variant == variant and s.outcome == "succeeded")

    def run_seconds(self, variant: str, backend: str, offer: str) -> float | None:
        """The median time that ``variant`` took on that offer, in seconds."""
        times = [
            s.run_seconds
            for s in self.successes(variant)
            if (s.backend, s.offer) == (backend, offer) and s.run_seconds is not None
        ]
        return median(times) if times else None

    def unavailable(self, backend: str, offer: str) -> str | None:
        """Why that offer cannot be had in this job: it had no capacity or never became reachable."""
        for s in self.seen:
            if s.this_job and (s.backend, s.offer) == (backend, offer) and s.outcome in ("no_capacity", "unreachable"):
                words = {"no_capacity": "it had no capacity", "unreachable": "it never became reachable"}
                return f"{words[s.outcome]} in an earlier attempt of this job"
        return None
