"""What to change when nothing is feasible."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.planning.plan import Code, Rejection

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
)
"""The checks from the last to the first: a pair that passed more of them is nearer to running."""


def nearest_change(rejected: Iterable[Rejection]) -> str:
    """The smallest change that would bring a pair nearest to the ladder onto it, in one line."""
    nearest = min((r for r in rejected if r.code in _NEAREST_FIRST), key=_distance, default=None)
    if nearest is None:
        return "No backend offers anything: `gpujob backends` says what is set up."
    where = f"{nearest.variant} on {nearest.backend} {nearest.offer}"
    return f"Nearest: {where}: {nearest.reason}. To change that, {nearest.change}."


def _distance(rejection: Rejection) -> tuple[int, float]:
    return _NEAREST_FIRST.index(rejection.code), rejection.gap
