"""What is already known when a plan is made: how earlier attempts of this job, and jobs like it, ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from backends.base import Offer
from backends.units import format_size

_ENDED = {
    "oom_host": "ran out of RAM",
    "oom_gpu": "ran out of VRAM",
    "killed": "was killed by an unexplained signal",
    "preempted": "lost its machine to the provider",
    "lost": "was lost with its machine",
    "unreachable": "could not reach its machine",
    "no_capacity": "found no capacity",
}

TRIES = 2
"""Machines of one offer that may never become reachable before it counts as out of reach: the next is another one."""


SAME_VRAM = 1.1
"""How far apart two figures of one GPU's VRAM may lie: an L4 has 23034 MiB by its driver, and 22888 by AWS."""

_EARLIER = " in an earlier attempt of this job"


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
    setup_seconds: float | None = None
    gpu: str | None = None
    this_job: bool = False
    where: str = ""

    @property
    def story(self) -> str:
        """How it ended, in words: ``ran out of RAM with 400 MB in attempt 1``; empty if memory and machine held."""
        if self.outcome not in _ENDED:
            return ""
        capacity = {
            "oom_host": self.ram_capacity_bytes,
            "killed": self.ram_capacity_bytes,
            "oom_gpu": self.vram_capacity_bytes,
        }.get(self.outcome)
        size = f" with {format_size(capacity)}" if capacity else ""
        return f"{_ENDED[self.outcome]}{size}{self.where}"


@dataclass(frozen=True, slots=True)
class Avoided:
    """An offer that is not worth money for a while, whatever the job; ``why`` says it with the time that has passed."""

    backend: str
    offer: str
    why: str


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Everything seen so far, oldest first; ``killed_counts`` says that an unexplained SIGKILL speaks like an OOM."""

    seen: tuple[Seen, ...] = ()
    killed_counts: bool = True
    avoided: tuple[Avoided, ...] = ()

    def as_offered(self, offers: Iterable[Offer]) -> Knowledge:
        """The same, with VRAM that ran out counted as ``offers`` count it.

        What one GPU of a model has shown holds for all of them, though drivers, libraries and price lists differ on how
        much it has, and though a run may end before anybody has read it.
        """
        if all(s.outcome != "oom_gpu" for s in self.seen):
            return self
        by_name = {(offer.backend, offer.name): offer for offer in offers if offer.gpu_count}
        by_model: dict[str | None, set[int]] = {}
        for offer in by_name.values():
            by_model.setdefault(offer.gpu, set()).add(offer.vram_bytes)

        def counted(s: Seen) -> Seen:
            own = by_name.get((s.backend, s.offer))
            tried = s.vram_capacity_bytes or (own.vram_bytes if own else None)
            if s.outcome != "oom_gpu" or tried is None:
                return s
            same = by_model.get(s.gpu or (own.gpu if own else None), set())
            return replace(s, vram_capacity_bytes=max(tried, *(v for v in same if v <= tried * SAME_VRAM), 0))

        return replace(self, seen=tuple(counted(s) for s in self.seen))

    def out_of_ram(self, variant: str) -> Seen | None:
        """The attempt that shows the largest RAM known to be too small for ``variant``."""
        return max(
            (s for s in self._out_of_memory(variant) if s.outcome != "oom_gpu" and s.ram_capacity_bytes),
            key=lambda s: s.ram_capacity_bytes or 0,
            default=None,
        )

    def out_of_vram(self, variant: str) -> Seen | None:
        """The attempt that shows the largest VRAM known to be too small for ``variant``."""
        return max(
            (s for s in self._out_of_memory(variant) if s.outcome == "oom_gpu" and s.vram_capacity_bytes),
            key=lambda s: s.vram_capacity_bytes or 0,
            default=None,
        )

    def out_of_memory_at(self, variant: str, offer: Offer) -> Seen | None:
        """An attempt in which ``variant`` ran out of memory on that very offer, all of which it had.

        Of a shared machine it had a slice, and may be given a larger one, if anybody recorded how large it was.
        """
        for s in self._out_of_memory(variant):
            capacity = s.vram_capacity_bytes if s.outcome == "oom_gpu" else s.ram_capacity_bytes
            if (s.backend, s.offer) == (offer.backend, offer.name) and not (offer.shared and capacity):
                return s
        return None

    def ran_out(self, variant: str) -> bool:
        """Whether ``variant`` ran out of memory in this very job."""
        return any(s.this_job for s in self._out_of_memory(variant))

    def last_of_this_job(self) -> Seen | None:
        """How this job's latest attempt ended."""
        return next((s for s in reversed(self.seen) if s.this_job), None)

    def successes(self, variant: str) -> tuple[Seen, ...]:
        """The attempts in which ``variant`` went through."""
        return tuple(s for s in self.seen if s.variant == variant and s.outcome == "succeeded")

    def unavailable(self, backend: str, offer: str) -> str | None:
        """Why that offer cannot be had in this job: it had no capacity, or never became usable, here or lately."""
        own = [s for s in self.seen if s.this_job and (s.backend, s.offer) == (backend, offer)]
        if full := next((s for s in own if s.outcome == "no_capacity"), None):
            return f"it had no capacity{full.where or _EARLIER}"
        gone = [s for s in own if s.outcome == "unreachable"]
        if len(gone) >= TRIES:
            return f"{TRIES} of its machines never became usable, the last{gone[-1].where or _EARLIER}"
        return next((a.why for a in self.avoided if (a.backend, a.offer) == (backend, offer)), None)

    def _out_of_memory(self, variant: str) -> list[Seen]:
        outcomes = {"oom_host", "oom_gpu"} | ({"killed"} if self.killed_counts else set())
        return [s for s in self.seen if s.variant == variant and s.outcome in outcomes]
