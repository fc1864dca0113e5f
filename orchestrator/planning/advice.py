"""What to change when nothing is feasible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from backends.units import format_chance, format_usd
from orchestrator.planning.plan import Code, Plan, Rejection

_BETTER_ONE_TAKEN = (Code.SAME_HEADROOM, Code.DEARER, Code.GPU_UNNEEDED)
_NEAREST_FIRST = (
    Code.NOT_WORTH_IT,
    Code.BUDGET,
    Code.ATTEMPTS,
    Code.QUOTA,
    Code.UNAVAILABLE,
    Code.NOT_ALLOWED,
    Code.OOM_SEEN,
    Code.DISK,
    Code.RAM,
    Code.VRAM,
    Code.GPU,
    Code.WHEN,
    Code.BACKEND,
    Code.NOT_SET_UP,
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


def once_set_up(plan: Plan, missing: Mapping[str, str]) -> str:
    """What ``plan``, made as if all backends were set up, gives the user for setting one up; by backend what is
    missing there. Where it gives nothing, what else would have to change.
    """
    first = next((rung for rung in plan.ladder if rung.backend in missing), None)
    if first is None:
        return plan.advice
    return (
        f"Nearest: {first.variant} on {first.backend} {first.offer}, a chance of {format_chance(first.p_success)} for "
        f"{format_usd(first.expected_micros)} expected, once this is set up: {missing[first.backend]}."
    )


def distance(rejection: Rejection) -> tuple[int, float]:
    """How far a pair is from running: by the checks that it passed, then by what it lacks."""
    return _PLACES[rejection.code], rejection.gap
