"""Keeping what is different: a few of many texts, by the angles between their embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Vector = Sequence[float]


@dataclass(frozen=True)
class Pruned:
    """``kept``: indices, in the order in which they were chosen. ``nearest``: of each text the highest cosine
    similarity to one that was chosen before it (of those left out, to any that was chosen); 0 for the first.
    """

    kept: list[int]
    nearest: list[float]


def cosine(one: Vector, other: Vector) -> float:
    """The cosine of the angle between two vectors, -1 to 1. Raises ValueError for a vector without a direction."""
    lengths = math.hypot(*one) * math.hypot(*other)
    if lengths == 0 or not math.isfinite(lengths):
        raise ValueError("an embedding is zero or not finite: nothing can be compared with it")
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / lengths


def prune(vectors: Sequence[Vector], keep: int, limit: float) -> Pruned:
    """At most ``keep`` of the vectors, no two of them more alike than ``limit``.

    Farthest-first (Gonzalez 1985): the first text, then always the one whose nearest chosen neighbour is farthest
    away, until none is below the limit. Of equals the earlier one is taken, so the result depends on nothing else.
    """
    if not vectors or keep < 1:
        return Pruned([], [])
    kept, nearest = [0], [cosine(vectors[0], each) for each in vectors]
    nearest[0] = 0.0
    while len(kept) < keep:
        rest = [index for index in range(len(vectors)) if index not in kept]
        if not rest or nearest[chosen := min(rest, key=lambda index: nearest[index])] >= limit:
            break
        kept.append(chosen)
        for index in set(rest) - {chosen}:
            nearest[index] = max(nearest[index], cosine(vectors[chosen], vectors[index]))
    return Pruned(kept, nearest)
