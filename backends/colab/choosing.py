"""Which session gets a job, and in words and numbers why none does. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from backends.base import LeaseRequest, NoCapacity
from backends.colab.offers import kind_of, kinds, name_of
from backends.colab.sessions import SessionFacts
from backends.units import format_size

SLACK = 0.03
"""Of RAM and VRAM that a runtime may have less than the table says."""

OPEN_NOTEBOOK = "open gpujob's notebook in Colab (`gpujob colab notebook` writes it) and press Run all"


def needs_of(request: LeaseRequest) -> dict[str, int]:
    """What the session must have, in bytes: what was planned with, less a little; the job's own need of disk."""
    offer = request.offer
    return {
        "vram_bytes": int(offer.vram_bytes * (1 - SLACK)),
        "ram_bytes": int((request.ram_bytes or offer.ram_bytes) * (1 - SLACK)),
        "disk_bytes": request.disk_bytes or 0,
    }


def chosen(request: LeaseRequest, plan: str, sessions: Iterable[SessionFacts], given: Iterable[str]) -> SessionFacts:
    """The session for the job: the smallest that fits, then the oldest; ``given`` are those that have a job of ours.

    Raises NoCapacity: ``busy_for_now`` where waiting helps, as long as nobody has opened a session or all are at work.
    """
    there, taken = list(sessions), set(given)
    if not there:
        raise NoCapacity(f"no Colab session is running: {OPEN_NOTEBOOK}", busy_for_now=True)
    whys = {session.id: why_not(session, request, plan) for session in there}
    fitting = [session for session in there if not whys[session.id]]
    if not fitting:
        said = "; ".join(f"session {session.id} ({session.described()}): {whys[session.id]}" for session in there)
        raise NoCapacity(f"no running Colab session fits {request.offer.name}: {said}")
    free = [session for session in fitting if not session.busy and session.id not in taken]
    if not free:
        raise NoCapacity("every Colab session that fits is at work", busy_for_now=True)
    return min(free, key=lambda each: (each.vram_bytes, each.ram_bytes, each.started_at, each.id))


def why_not(session: SessionFacts, request: LeaseRequest, plan: str) -> str:
    """Why the session cannot be what was planned with; empty where it can."""
    asked = next(each for each in kinds() if name_of(each, plan) == request.offer.name)
    return misfit(session, needs_of(request), None if plan == "free" else asked.units)


def misfit(session: SessionFacts, needs: Mapping[str, int], units: float | None) -> str:
    """Why a runtime is not what is needed, or takes more than the ``units`` an hour that were planned (None: whatever
    it takes); empty where all is well.
    """
    kind = kind_of(session.gpu)
    if kind is None or kind.units is None:
        return f"what an hour with {session.gpu} takes is not on record"
    if units is not None and kind.units > units:
        return f"it takes {kind.units:g} units an hour, and {units:g} were planned"
    for name, what in (("vram_bytes", "GPU memory"), ("ram_bytes", "RAM"), ("disk_bytes", "free disk")):
        if getattr(session, name) < needs[name]:
            return f"it has {format_size(getattr(session, name))} of {what}, {format_size(needs[name])} are needed"
    return ""
