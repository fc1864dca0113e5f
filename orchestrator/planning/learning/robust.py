"""Statistics that a few wild measurements cannot bend: weighted median, relative least absolute deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_GOLDEN = (5**0.5 - 1) / 2
_OFFSET_RANGE = (-4e9, 8e9)
"""Bytes between which an offset is looked for: contexts, workspaces and libraries are of a few GB."""

_STEPS = 34
"""Golden-section steps: 12 GB shrink to about a kilobyte."""


@dataclass(frozen=True, slots=True)
class Line:
    """``measured = slope x predicted + offset``, in bytes."""

    slope: float = 1.0
    offset: float = 0.0

    def at(self, predicted: float) -> float:
        """The corrected prediction; an offset learned on large jobs never takes more than half of a small one."""
        return max(self.slope * predicted + self.offset, predicted / 2)


@dataclass(frozen=True, slots=True)
class Point:
    """A pair of prediction and measurement, in bytes; both positive."""

    predicted: float
    measured: float
    weight: float = 1.0


def weighted_median(values: Sequence[tuple[float, float]]) -> float:
    """The value at which half of the weight is reached, from (value, weight) pairs; at least one."""
    ordered = sorted(values)
    half = sum(weight for _, weight in ordered) / 2
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return ordered[-1][0]


def fit_line(points: Sequence[Point]) -> Line:
    """The line with the least sum of |error| / measured.

    For a given offset the best slope is a weighted median; what is left is convex in the offset.
    """
    low, high = _OFFSET_RANGE
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    loss_left, loss_right = _loss(points, left), _loss(points, right)
    for _ in range(_STEPS):
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - _GOLDEN * (high - low)
            loss_left = _loss(points, left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + _GOLDEN * (high - low)
            loss_right = _loss(points, right)
    offset = (low + high) / 2
    return Line(_slope(points, offset), offset)


def _loss(points: Sequence[Point], offset: float) -> float:
    slope = _slope(points, offset)
    return sum(p.weight * abs(slope * p.predicted + offset - p.measured) / p.measured for p in points)


def _slope(points: Sequence[Point], offset: float) -> float:
    return weighted_median([((p.measured - offset) / p.predicted, p.weight * p.predicted / p.measured) for p in points])
