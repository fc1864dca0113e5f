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
    """The smallest change that would bring a pair nearest to the ladder onto it, in one line; empty where that is the
    set-up of a backend, of which :func:`once_set_up` knows more.
    """
    nearest = min((r for r in rejected if r.code in _NEAREST_FIRST), key=distance, default=None)
    if nearest is None:
        return "No backend offers anything: `gpujob backends` says what is set up."
    if nearest.code is Code.NOT_SET_UP:
        return ""
    where = f"{nearest.variant} on {nearest.backend} {nearest.offer}"
    change = f" To change that, {nearest.change}." if nearest.change else ""
    return f"Nearest: {where}: {nearest.reason}.{change}"


def once_set_up(advice: str, plan: Plan, missing: Mapping[str, str]) -> str:
    """``advice``, and what ``plan``, made as if all backends were set up, gives the user for setting one up; by backend
    what is missing there. Where that gives nothing, what else would have to change.
    """
    first = next((rung for rung in plan.ladder if rung.backend in missing), None)
    if first is None:
        return plan.advice
    return (
        f"{advice} {'Or' if advice else 'Nearest:'} {first.variant} on {first.backend} {first.offer}, a chance of "
        f"{format_chance(first.p_success)} for {format_usd(first.expected_micros)} expected, once this is set up: "
        f"{missing[first.backend]}."
    ).strip()


def distance(rejection: Rejection) -> tuple[int, float]:
    """How far a pair is from running: by the checks that it passed, then by what it lacks."""
    return _PLACES[rejection.code], rejection.gap
