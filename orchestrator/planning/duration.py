"""How long an attempt takes: getting ready, running, bringing home. Each a distribution, not a point."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist, median, pstdev

from backends.base import Offer
from backends.units import format_about, format_duration
from orchestrator.catalog.providers import provider
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.speeds import Bound, speed_of
from orchestrator.spec.model import JobSpec, ResolvedVariant

UNKNOWN_RUN_SECONDS = 1800.0
"""The guess for a job that says nothing of its duration and has never run."""

SIGMA_SEEN = 0.1
SIGMA_SCALED = 0.25
SIGMA_DECLARED = 0.4
SIGMA_UNKNOWN = 0.8
"""Spread of the logarithm: seen here; scaled from elsewhere or computed; a person's guess; nothing known."""

EFFICIENCY = 0.35
"""Share of a GPU's peak arithmetic that training reaches: 30 to 45 % is usual for well-fed transformers."""

PACKAGES_SECONDS = 90.0
IMAGE_BYTES = 8_000_000_000
FETCH_SECONDS = 15.0
"""First guesses of what lies around a run, beside the table of providers. An image is as large as PyTorch's."""


@dataclass(frozen=True, slots=True)
class Time:
    """A time in seconds as a log-normal; ``sigma`` is the deviation of its natural logarithm."""

    median: float
    sigma: float = 0.0

    @property
    def mean(self) -> float:
        """The expected time."""
        return self.median * math.exp(self.sigma**2 / 2)

    def quantile(self, p: float) -> float:
        """The time that suffices with chance ``p``, 0 < p < 1."""
        return self.median * math.exp(self.sigma * _STANDARD.inv_cdf(p))


_STANDARD = NormalDist()


def together(times: Iterable[Time]) -> Time:
    """The sum of independent times as one log-normal with the same mean and variance (Fenton and Wilkinson)."""
    listed = [time for time in times if time.median > 0]
    mean = sum(time.mean for time in listed)
    if mean == 0:
        return Time(0.0)
    variance = sum(time.mean**2 * math.expm1(time.sigma**2) for time in listed)
    sigma = math.sqrt(math.log1p(variance / mean**2))
    return Time(mean * math.exp(-(sigma**2) / 2), sigma)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is known of a variant's work beside its memory: from its model section, or measured."""

    bound: Bound | None = None
    flops: float | None = None
    download_bytes: int = 0


WORTH_SAYING = 0.1
"""Share of a run's time from which what lies around it is named."""


@dataclass(frozen=True)
class Course:
    """An attempt in time. ``basis`` says where the time of the run comes from."""

    setup: Time
    run: Time
    fetch: Time
    basis: str

    @property
    def around(self) -> str:
        """The time beside the run in words, if the whole is not understood without it."""
        seconds = self.setup.mean + self.fetch.mean
        if seconds < WORTH_SAYING * self.run.mean:
            return ""
        return f", and {format_about(seconds)} to get ready{' and bring home' if self.fetch.median else ''}"

    @cached_property
    def total(self) -> Time:
        """All of it."""
        return together((self.setup, self.run, self.fetch))


def course(spec: JobSpec, variant: ResolvedVariant, offer: Offer, knowledge: Knowledge, workload: Workload) -> Course:
    """How long ``variant`` takes on ``offer``, step by step."""
    run, basis = _run(spec, variant, offer, knowledge, workload)
    if run.mean > spec.limits.runtime:
        basis += f", but limits.runtime ends it after {format_duration(spec.limits.runtime)}"
        run = Time(spec.limits.runtime)
    fetch = Time(FETCH_SECONDS, 0.5) if offer.backend != "local" and spec.results else Time(0.0)
    return Course(_setup(spec, variant, offer, knowledge, workload), run, fetch, basis)


def _setup(spec: JobSpec, variant: ResolvedVariant, offer: Offer, knowledge: Knowledge, workload: Workload) -> Time:
    """Starting the machine, its image, packages and downloads. This machine keeps what an earlier run brought."""
    facts, here = provider(offer.backend), offer.backend == "local"
    start = Time(facts.start_seconds, facts.start_sigma)
    seen = [each for each in knowledge.successes(variant.name) if each.backend == offer.backend]
    if here and seen:
        return start
    image = Time(IMAGE_BYTES / facts.image_bytes_per_second if spec.image and not here else 0.0, 0.5)
    took = [each.setup_seconds for each in seen if each.setup_seconds is not None]
    if took:
        return together((start, image, Time(median(took), _sigma(took, SIGMA_SCALED))))
    inputs = sum(each.max_size or 0 for each in spec.inputs) + workload.download_bytes
    packages = Time(PACKAGES_SECONDS if spec.setup else 0.0, 0.5)
    return together((start, image, Time(inputs / facts.bytes_per_second, 0.5), packages))


def _run(
    spec: JobSpec, variant: ResolvedVariant, offer: Offer, knowledge: Knowledge, workload: Workload
) -> tuple[Time, str]:
    """The best source there is: measured here, measured on a GPU that compares, computed, declared, guessed."""
    return (
        _seen_here(variant, offer, knowledge)
        or _seen_elsewhere(variant, offer, knowledge, workload.bound)
        or _computed(offer, workload)
        or _declared(spec, offer, workload.bound)
        or _unscaled(variant, knowledge)
        or (_UNKNOWN, f"nothing says how long it takes: assumed {_median_and_mean(_UNKNOWN)}")
    )


def _seen_here(variant: ResolvedVariant, offer: Offer, knowledge: Knowledge) -> tuple[Time, str] | None:
    times = [
        seen.run_seconds
        for seen in knowledge.successes(variant.name)
        if seen.run_seconds is not None and (seen.backend, seen.offer) == (offer.backend, offer.name)
    ]
    if not times:
        return None
    return Time(median(times), _sigma(times, SIGMA_SEEN)), f"took {format_duration(median(times))} here before"


def _seen_elsewhere(
    variant: ResolvedVariant, offer: Offer, knowledge: Knowledge, bound: Bound | None
) -> tuple[Time, str] | None:
    """Recorded times on GPUs whose speed is known, carried to this one."""
    here = speed_of(offer.gpu)
    if here is None or not variant.need.gpu:
        return None
    times, where = [], ""
    for seen in knowledge.successes(variant.name):
        if seen.gpu and seen.run_seconds is not None and (there := speed_of(seen.gpu)):
            times.append(seen.run_seconds * there.ratio(here, bound))
            where = seen.gpu
    if not times:
        return None
    middle = median(times)
    return Time(middle, _sigma(times, SIGMA_SCALED)), f"{format_duration(middle)}, scaled from runs on {where}"


def _computed(offer: Offer, workload: Workload) -> tuple[Time, str] | None:
    speed = speed_of(offer.gpu)
    if workload.flops is None or speed is None:
        return None
    seconds = workload.flops / (speed.tflops * 1e12 * EFFICIENCY * max(1, offer.gpu_count))
    words = f"{workload.flops:.2g} FLOP at {EFFICIENCY:.0%} of {speed.tflops:g} TFLOPS: {format_duration(seconds)}"
    return Time(seconds, SIGMA_SCALED), words


def _declared(spec: JobSpec, offer: Offer, bound: Bound | None) -> tuple[Time, str] | None:
    """What the spec says, carried from the GPU it says it for, if both are known; a CPU's time stays as it is."""
    if spec.duration is None:
        return None
    seconds, on = spec.duration.minutes * 60, spec.duration.on
    words = f"the spec expects {format_duration(seconds)} on {on}"
    stated, here = speed_of(on), speed_of(offer.gpu)
    if on.lower() == "cpu" or offer.gpu is None or stated is None or here is None or stated == here:
        return Time(seconds, SIGMA_DECLARED), words
    scaled = seconds / here.ratio(stated, bound)
    return Time(scaled, SIGMA_DECLARED), f"{words}, so {format_duration(scaled)} on {offer.gpu}"


def _unscaled(variant: ResolvedVariant, knowledge: Knowledge) -> tuple[Time, str] | None:
    times = [seen.run_seconds for seen in knowledge.successes(variant.name) if seen.run_seconds is not None]
    if not times:
        return None
    return Time(median(times), SIGMA_DECLARED), f"took {format_duration(median(times))} elsewhere before"


_UNKNOWN = Time(UNKNOWN_RUN_SECONDS, SIGMA_UNKNOWN)


def _median_and_mean(time: Time) -> str:
    return f"{format_about(time.median)} in the median, {format_about(time.mean)} on average"


def _sigma(times: Sequence[float], least: float) -> float:
    """The spread of recorded times, never below ``least``: a few runs that agree prove little."""
    logs = [math.log(max(time, 0.001)) for time in times]
    return max(least, pstdev(logs)) if len(logs) > 2 else least
