"""Bounds that hold as often as they claim to, whatever the errors are distributed like (split conformal)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from orchestrator.planning.need import MemoryNeed

ENOUGH_RATIOS = 20
"""Fewer measured ratios than these are left to the log-normal prior."""

_SPREAD = (5**0.5 - 1) / 2


def upper_bound(need: MemoryNeed, alpha: float) -> int:
    """Bytes that the need exceeds with chance ``alpha`` at most: 0.10 to ask what fits, 0.05 before paying.

    Exact in finite samples once ``ENOUGH_RATIOS`` are measured, if the next run is like the earlier ones; before
    that, and after an OOM of this very configuration, the smoothed quantile.
    """
    rank = math.ceil((len(need.ratios) + 1) * (1 - alpha))
    if len(need.ratios) < ENOUGH_RATIOS or rank > len(need.ratios) or need.floor_bytes:
        return need.quantile(1 - alpha)
    return round(need.median_bytes * need.ratios[rank - 1])


def uncensored(ratios: Iterable[tuple[float, bool]]) -> tuple[float, ...]:
    """All ratios, ascending, with those of OOMs (ratio, True) moved up to where they may really have been.

    An OOM says only that the ratio was above. As in the Kaplan-Meier estimate its weight goes to the measured ones
    above it, here one of them each, evenly spread; where there is none it stays.
    """
    found = list(ratios)
    known = sorted(ratio for ratio, censored in found if not censored)
    moved = [
        _somewhere_above(bound, known, turn)
        for turn, bound in enumerate(sorted(r for r, censored in found if censored))
    ]
    return tuple(sorted([*known, *moved]))


def _somewhere_above(bound: float, known: list[float], turn: int) -> float:
    above = [ratio for ratio in known if ratio > bound]
    share = (turn + 1) * _SPREAD % 1.0  # a golden-ratio sequence: even, and the same every time
    return above[int(share * len(above))] if above else bound
