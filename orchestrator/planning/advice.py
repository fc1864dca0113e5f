"""What to change when nothing is feasible."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.planning.plan import Code, Rejection

_BETTER_ONE_TAKEN = (Code.SAME_HEADROOM, Code.DEARER, Code.GPU_UNNEEDED)
_NEAREST_FIRST = (
    Code.NOT_WORTH_IT,
    Code.BUDGET,
    Code.ATTEMPTS,
    Code.QUOTA,
    Code.NOT_SET_UP,
    Code.UNAVAILABLE,
    Code.NOT_ALLOWED,
    Code.OOM_SEEN,
    Code.DISK,
    Code.RAM,
    Code.VRAM,
    Code.GPU,
    Code.WHEN,
    Code.BACKEND,
)
"""The checks from the last to the first: a pair that passed more of them is nearer to running."""

_PLACES = {code: place for place, code in enumerate((*_BETTER_ONE_TAKEN, *_NEAREST_FIRST))}


def nearest_change(rejected: Iterable[Rejection]) -> str:
    """The smallest change that would bring a pair nearest to the ladder onto it, in one line."""
    nearest = min((r for r in rejected if r.code in _NEAREST_FIRST), key=distance, default=None)
    if nearest is None:
        return "No backend offers anything: `gpujob backends` says what is set up."
    where = f"{nearest.variant} on {nearest.backend} {nearest.offer}"
    change = f" To change that, {nearest.change}." if nearest.change else ""
    return f"Nearest: {where}: {nearest.reason}.{change}"


def distance(rejection: Rejection) -> tuple[int, float]:
    """How far a pair is from running: by the checks that it passed, then by what it lacks."""
    return _PLACES[rejection.code], rejection.gap
