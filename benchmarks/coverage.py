"""Whether bounds on memory hold as often as they claim: realised coverage, run after run, on generated jobs.

The errors have the structure that was measured on 4,481 runs of 1,001 models against traced peaks: a line per GPU
and stack, a factor per family and per job, scatter between settings of one job, and a heavy tail (bounds at 0.90,
0.95 and 0.98 lay 10, 23 and 98 % above the point there). Runs that do not fit are seen as censored.

    .venv/bin/python benchmarks/coverage.py [--runs 1600] [--seed 1]
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median

from orchestrator.planning.learning import Calibration, Measured, Observed, Subject, upper_bound
from orchestrator.planning.need import MemoryNeed, VariantNeed

NOMINAL = (0.90, 0.95, 0.98)
GB = 10**9
CAPACITIES = {"T4": 15.6 * GB, "A10": 23.6 * GB, "A100": 42.2 * GB, "H100": 84.9 * GB}
LINES = {"T4": (1.05, 0.45 * GB), "A10": (1.05, 0.5 * GB), "A100": (1.127, 1.94 * GB), "H100": (1.08, 0.6 * GB)}
FAMILIES, JOBS, RUNS_PER_JOB = 30, 350, 4.5
FAMILY_SIGMA, JOB_SIGMA, SETTING_SIGMA, RERUN_SIGMA = 0.03, 0.05, 0.045, 0.005
TAIL_SHARE, TAIL_SCALE = 0.04, 0.45
"""Of jobs, and once more of settings: these take e to the power of an exponential variable more than the rest."""

PRIOR_SIGMA = 0.06
SIZES = tuple(gb * GB for gb in (6, 8, 12, 16, 24, 32, 40, 48, 80))
"""Capacities at which each run is asked for its chance of running out of memory."""


@dataclass(frozen=True, slots=True)
class Run:
    """One generated run: what is known before, what it truly needs, and what the GPU has."""

    subject: Subject
    predicted: int
    needs: int
    capacity: int

    def observed(self) -> Observed:
        out_of_memory = self.needs > self.capacity
        seen = self.capacity if out_of_memory else self.needs
        return Observed(self.subject, vram=Measured(seen, self.predicted, censored=out_of_memory))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was said before a run, and what came."""

    run: Run
    need: MemoryNeed
    had_own_runs: bool
    bounds: tuple[int, ...]
    low: int

    @property
    def inside(self) -> bool:
        """Whether the run lay between the bounds at 5 and 95 %."""
        return self.low < self.run.needs <= self.bounds[NOMINAL.index(0.95)]


def generated(count: int, seed: int) -> list[Run]:
    """Runs in the order in which a team might make them."""
    dice = random.Random(seed)
    families = [dice.gauss(0, FAMILY_SIGMA) for _ in range(FAMILIES)]
    runs = [run for job in range(JOBS) for run in _runs_of_job(dice, families, job)]
    dice.shuffle(runs)
    return runs[:count]


def _runs_of_job(dice: random.Random, families: list[float], job: int) -> Iterator[Run]:
    family = dice.randrange(FAMILIES)
    factor = families[family] + dice.gauss(0, JOB_SIGMA) + _tail(dice)
    size, gpu = math.exp(dice.uniform(math.log(2), math.log(45))) * GB, dice.choice(list(LINES))
    subject = Subject(f"job-{job}", "main", family=f"family-{family}", gpu=gpu, stack="torch 2.8")
    for _ in range(1 + round(dice.expovariate(1 / (RUNS_PER_JOB - 1)))):
        predicted = round(size * dice.choice((0.5, 0.75, 1.0, 1.5)))
        # The same settings give the same scatter again: it belongs to the configuration, not to the run.
        setting = random.Random(f"{job} {predicted}")
        error = factor + setting.gauss(0, SETTING_SIGMA) + _tail(setting) + dice.gauss(0, RERUN_SIGMA)
        slope, offset = LINES[gpu]
        yield Run(subject, predicted, round((slope * predicted + offset) * math.exp(error)), round(CAPACITIES[gpu]))


def _tail(dice: random.Random) -> float:
    return dice.expovariate(1 / TAIL_SCALE) if dice.random() < TAIL_SHARE else 0.0


def forecasts(runs: list[Run]) -> Iterator[Forecast]:
    """Each run forecast from those before it alone."""
    seen: list[Observed] = []
    names: set[str] = set()
    for run in runs:
        raw = VariantNeed(MemoryNeed(run.predicted, PRIOR_SIGMA), None, "high")
        need = Calibration(seen).of(raw, run.subject).vram
        assert need is not None
        bounds = tuple(upper_bound(need, 1 - p) for p in NOMINAL)
        yield Forecast(run, need, run.subject.name in names, bounds, upper_bound(need, 0.95))
        seen.append(run.observed())
        names.add(run.subject.name)


def coverage(found: list[Forecast], index: int) -> float:
    """Share of runs that needed no more than the bound."""
    return mean(f.run.needs <= f.bounds[index] for f in found)


def report(found: list[Forecast], skipped: int) -> str:
    """The tables, in Markdown."""
    settled = found[skipped:]
    own = [f for f in settled if f.had_own_runs]
    new = [f for f in settled if not f.had_own_runs]
    before = f"{len(own)} of jobs that had run before, {len(new)} of new ones"
    lines = [
        f"{len(found)} runs, the first {skipped} not counted: {before}.",
        "",
        "| nominal | realised, all | job has run before | new job | bound above need, median |",
        "|---|---|---|---|---|",
    ]
    for i, p in enumerate(NOMINAL):
        above = median(f.bounds[i] / f.run.needs - 1 for f in settled)
        shares = " | ".join(f"{coverage(part, i):.3f}" for part in (settled, own, new))
        lines.append(f"| {p:.2f} | {shares} | {above:.0%} |")
    inside = (f"{mean(f.inside for f in part):.1%}" for part in (settled, own, new))
    lines += [
        "",
        "The interval from 5 to 95 % holds {}; of jobs that had run before {}, of new ones {}.".format(*inside),
    ]
    lines += ["", "| point forecast | median error |", "|---|---|"]
    lines.append(f"| formulas alone | {_error(settled, lambda f: f.run.predicted):.1%} |")
    lines.append(f"| calibrated, new job | {_error(new, lambda f: f.need.median_bytes):.1%} |")
    lines.append(f"| calibrated, job has run before | {_error(own, lambda f: f.need.median_bytes):.1%} |")
    return "\n".join([*lines, "", *_chances(settled)])


def _error(found: list[Forecast], point: Callable[[Forecast], float]) -> float:
    return median(abs(point(f) / f.run.needs - 1) for f in found)


def _chances(found: list[Forecast]) -> list[str]:
    lines = ["| P(out of memory) said | times | said on average | came |", "|---|---|---|---|"]
    said = [(f.need.p_oom(size), f.run.needs > size) for f in found for size in SIZES]
    for low, high in pairwise((0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 1.01)):
        group = [(p, came) for p, came in said if low <= p < high]
        if group:
            average, share = mean(p for p, _ in group), mean(came for _, came in group)
            lines.append(f"| {low:.2f} to {min(high, 1):.2f} | {len(group)} | {average:.3f} | {share:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=100)
    asked = parser.parse_args()
    text = report(list(forecasts(generated(asked.runs, asked.seed))), asked.warm_up)
    print(text)


if __name__ == "__main__":
    main()
