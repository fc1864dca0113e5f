"""What counts for how much. A priority is a setting of these weights; each can be set by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.planning.plan import Priority


@dataclass(frozen=True, slots=True)
class Weights:
    """Dollars: for an hour of waiting, for a failed attempt, for losing all quality; and the chance to aim at.

    A ladder that can reach ``target`` within the budget is preferred to any that cannot.
    """

    hour: float
    failure: float
    quality: float
    target: float

    def changed(self, own: Mapping[str, float]) -> Weights:
        """The same with the weights that the user has set."""
        return replace(self, **own)


WEIGHTS = {
    Priority.COST: Weights(hour=0.05, failure=0.1, quality=3.0, target=0.8),
    Priority.SPEED: Weights(hour=100.0, failure=5.0, quality=10.0, target=0.9),
    Priority.RELIABILITY: Weights(hour=2.0, failure=30.0, quality=10.0, target=0.99),
    Priority.BALANCED: Weights(hour=5.0, failure=2.0, quality=10.0, target=0.95),
}
