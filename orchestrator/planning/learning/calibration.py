"""From a predicted need and what earlier runs took to a calibrated need.

Three corrections, each measured against the one before: a line per GPU and stack, the ratio of the family, the ratio
of the job itself. What is left over, run by run, are the ratios that bounds and chances come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

from backends.units import format_size
from orchestrator.planning.learning.conformal import uncensored
from orchestrator.planning.learning.observed import Measured, Observed, Subject, same_configuration
from orchestrator.planning.learning.robust import Line, Point, fit_line
from orchestrator.planning.learning.track import Expected, Track
from orchestrator.planning.need import MemoryNeed, VariantNeed

WINDOW = 400
"""Only the newest runs count: stacks and machines change."""

RERUN_SIGMA = 0.02
"""What two runs of the same thing differ by."""

UNPREDICTED_SIGMA = 0.1
"""How far the next run of a job may be from a single earlier one where no prediction tells what changed."""

PRIOR_RUNS = 10
"""How many runs that went as predicted every line begins with."""


def calibrate(need: VariantNeed, subject: Subject, observed: Sequence[Observed]) -> VariantNeed:
    """``need`` as ``observed``, oldest first, corrects it; as it is where they have nothing to say."""
    return Calibration(observed).of(need, subject)


class Calibration:
    """What a history of runs, oldest first, teaches. Make it once and ask it for every variant."""

    def __init__(self, observed: Sequence[Observed]) -> None:
        self._vram = _Kind("VRAM", [(o.subject, o.vram) for o in observed if o.vram])
        # RAM does not depend on the GPU: its lines are drawn by stack alone.
        self._ram = _Kind("RAM", [(replace(o.subject, gpu=""), o.ram) for o in observed if o.ram])

    def of(self, need: VariantNeed, subject: Subject) -> VariantNeed:
        """The calibrated need of one variant on ``subject.gpu``, or on any GPU where that is empty."""
        vram = self._vram.calibrated(need.vram, subject)
        ram = self._ram.calibrated(need.ram, replace(subject, gpu=""))
        found = [each for each in (vram, ram) if each.need]
        measured = bool(found) and all(each.identical for each in found)
        return VariantNeed(
            vram=vram.need,
            ram=ram.need,
            confidence="measured" if measured else need.confidence,
            notes=(*need.notes, *(each.note for each in found if each.note)),
        )


@dataclass(frozen=True, slots=True)
class _Calibrated:
    need: MemoryNeed | None
    note: str = ""
    identical: bool = False


Row = tuple[Subject, Measured]


class _Kind:
    """The history of one kind of memory."""

    def __init__(self, kind: str, rows: Sequence[Row]) -> None:
        self._kind = kind
        self._rows = rows[-WINDOW:]
        self._lines: dict[tuple[str, str], Line] = {}

    def calibrated(self, need: MemoryNeed | None, subject: Subject) -> _Calibrated:
        predicted = need.median_bytes if need else None
        same = [m for row, m in self._rows if same_configuration(subject, predicted, row, m)]
        ran_out = [m for m in same if m.censored]
        calibrated = self._corrected(need, subject, ran_out) if need else self._from_peaks(same)
        if calibrated.need is None:
            return calibrated
        floor = max((m.bytes_ for m in ran_out), default=0)
        return replace(calibrated, need=calibrated.need.above(floor), identical=any(not m.censored for m in same))

    def _from_peaks(self, same: Sequence[Measured]) -> _Calibrated:
        """Without a prediction: what runs of the very same configuration took."""
        peaks = [m.bytes_ for m in same if not m.censored]
        if not peaks:
            return _Calibrated(None)
        sigma = math.hypot(RERUN_SIGMA, UNPREDICTED_SIGMA / math.sqrt(len(peaks) + 1))
        taken = round(median(peaks))
        note = f"{self._kind}: {_times(len(peaks))} took {format_size(taken)}"
        return _Calibrated(MemoryNeed(taken, sigma, "measured"), note)

    def _corrected(self, need: MemoryNeed, subject: Subject, ran_out: Sequence[Measured]) -> _Calibrated:
        if not self._rows:
            return _Calibrated(need)
        history = self._without(ran_out)
        expected = history.track.expected(subject, need.median_bytes)
        ratios = history.with_own if expected.weight else history.without_own
        point = self._line(subject).at(need.median_bytes) * expected.ratio
        corrected = replace(need, median_bytes=round(point), sigma=_sigma(need.sigma, expected), ratios=ratios)
        return _Calibrated(corrected, self._note(expected))

    def _note(self, expected: Expected) -> str:
        if not expected.runs:
            return ""
        return f"{self._kind}: {_times(expected.runs)} took {expected.ratio:.2f} x the prediction"

    def _without(self, ran_out: Sequence[Measured]) -> _History:
        """The history less the OOMs of the very configuration that is asked for.

        These are its floor already: as ratios too they would count twice, and pass for a measurement.
        """
        if not ran_out:
            return self._history
        return _replayed([(s, m) for s, m in self._predicted if not any(m is each for each in ran_out)], self._line)

    @cached_property
    def _history(self) -> _History:
        return _replayed(self._predicted, self._line)

    @property
    def _predicted(self) -> list[Row]:
        return [(s, m) for s, m in self._rows if m.predicted_bytes]

    def _line(self, subject: Subject) -> Line:
        """The line of the subject's GPU and stack; what is not known of these is not asked for."""
        key = (subject.gpu, subject.stack)
        if key not in self._lines:
            points = [
                Point(m.predicted_bytes, m.bytes_)
                for row, m in self._rows
                if m.predicted_bytes and not m.censored and _same_place(subject, row)
            ]
            self._lines[key] = fit_line((*points, *_prior(points))) if points else Line()
        return self._lines[key]


def _prior(points: Sequence[Point]) -> list[Point]:
    """Runs that took what was predicted, of half to twice the usual sizes, which tell slope and offset apart."""
    sizes = sorted(point.predicted for point in points)
    low, high = sizes[len(sizes) // 4] / 2, sizes[-1 - len(sizes) // 4] * 2
    spaced = [low * (high / low) ** (i / (PRIOR_RUNS - 1)) for i in range(PRIOR_RUNS)]
    return [Point(size, size) for size in spaced]


def _same_place(subject: Subject, row: Subject) -> bool:
    return subject.gpu in ("", row.gpu) and subject.stack in ("", row.stack)


@dataclass(frozen=True, slots=True)
class _History:
    """Every run's measure over what was to be expected before it: of jobs with runs of their own, and of new jobs."""

    track: Track
    with_own: tuple[float, ...]
    without_own: tuple[float, ...]


def _replayed(rows: Sequence[Row], line: Callable[[Subject], Line]) -> _History:
    track = Track()
    pools: dict[bool, list[tuple[float, bool]]] = {True: [], False: []}
    for subject, measured in rows:
        predicted = measured.predicted_bytes or 0
        ratio = measured.bytes_ / line(subject).at(predicted)
        expected = track.expected(subject, predicted)
        pools[expected.weight > 0].append((ratio / expected.ratio, measured.censored))
        track.add(subject, measured, ratio)
    return _History(track, uncensored(pools[True]), uncensored(pools[False]))


def _sigma(prior: float, expected: Expected) -> float:
    """The job's own ratio is known the better the more it has run; what reruns differ by stays."""
    if not expected.weight:
        return prior
    return math.hypot(RERUN_SIGMA, prior / math.sqrt(expected.weight + 1))


def _times(count: int) -> str:
    return "one earlier run" if count == 1 else f"{count} earlier runs"
