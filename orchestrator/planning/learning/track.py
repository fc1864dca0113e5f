"""The ratios of measured to predicted as runs come in: what they say of one job, and of its family."""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.planning.learning.observed import Measured, Subject, same_configuration
from orchestrator.planning.learning.robust import weighted_median

IDENTICAL_WEIGHT = 10.0
"""A run of the same configuration says as much as ten runs of the same job with other settings."""

_REMEMBERED = 30
"""How many runs of a job, and how many jobs of a family, are looked at: the newest."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The ratio to expect; ``weight`` is how much the job's own runs have to say, 0 for none."""

    ratio: float
    weight: float
    runs: int


@dataclass(frozen=True, slots=True)
class _Run:
    subject: Subject
    measured: Measured
    log_ratio: float


class Track:
    """Ratios in the order in which they were measured. Add after asking, and every answer is a true forecast."""

    def __init__(self) -> None:
        self._jobs: defaultdict[str, deque[_Run]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._families: defaultdict[str, OrderedDict[str, float]] = defaultdict(OrderedDict)

    def expected(self, subject: Subject, predicted: int) -> Expected:
        """The shrunk median of the job's runs, around the shrunk median of its family's other jobs."""
        family = _shrunk([(value, 1.0) for value in self._relatives(subject)])
        runs = self._jobs[subject.name]
        own = [(run.log_ratio - family, _weight(subject, predicted, run)) for run in runs]
        return Expected(math.exp(family + _shrunk(own)), sum(weight for _, weight in own), len(own))

    def add(self, subject: Subject, measured: Measured, ratio: float) -> None:
        """Remember a run. An OOM below what was expected anyway says nothing of the ratio."""
        predicted = measured.predicted_bytes or 0
        if measured.censored and ratio <= self.expected(subject, predicted).ratio:
            return
        self._jobs[subject.name].append(_Run(subject, measured, math.log(ratio)))
        family = self._families[subject.family]
        family[subject.name] = weighted_median([(run.log_ratio, 1.0) for run in self._jobs[subject.name]])
        family.move_to_end(subject.name)
        while len(family) > _REMEMBERED:
            family.popitem(last=False)

    def _relatives(self, subject: Subject) -> Iterator[float]:
        if subject.family:
            yield from (value for name, value in self._families[subject.family].items() if name != subject.name)


def _weight(subject: Subject, predicted: int, run: _Run) -> float:
    return IDENTICAL_WEIGHT if same_configuration(subject, predicted, run.subject, run.measured) else 1.0


def _shrunk(values: list[tuple[float, float]]) -> float:
    """The weighted median of logarithms, drawn to 0 as if one unit of weight lay there."""
    total = sum(weight for _, weight in values)
    return weighted_median(values) * total / (total + 1) if values else 0.0
