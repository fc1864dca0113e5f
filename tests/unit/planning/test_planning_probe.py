"""The straight line through two measured runs, and how sure it is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planning.probe import MOST_SIGMA, Line, Probed, Run

GB = 10**9


def test_a_line_is_met_exactly() -> None:
    line = Line((1, 2), (GB + 100_000_000, GB + 200_000_000))
    assert (line.fixed, line.each) == (GB, 100_000_000)
    assert line.at(64) == GB + 6_400_000_000


def test_a_peak_that_shrank_is_noise() -> None:
    line = Line((1, 2), (GB, GB - 3_000_000))
    assert (line.each, line.at(64)) == (0, GB)


def test_the_further_the_line_is_drawn_the_less_sure_it_is() -> None:
    line = Line((1, 2), (GB, GB + 50_000_000))
    spreads = [line.sigma(batch) for batch in (2, 8, 64, 1024)]
    assert spreads == sorted(spreads)
    assert spreads[0] == pytest.approx(0.05, rel=0.05)
    assert Line((8, 32), (GB, GB + 24 * 50_000_000)).sigma(64) < line.sigma(64)


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    line = Line((4, 8), (GB, 2 * GB))
    largest = line.largest(16 * GB)
    for batch, fits in ((largest, True), (largest + 1, False)):
        assert (line.at(batch) * math.exp(1.645 * line.sigma(batch)) <= 16 * GB) is fits
    assert Line((1, 2), (2 * GB, 3 * GB)).largest(GB) == 0


@given(
    small=st.integers(1, 100), step=st.integers(1, 100), peak=st.integers(10**6, 10**11), more=st.integers(0, 10**11),
    batch=st.integers(1, 10**6),
)  # fmt: skip
def test_any_two_runs_give_a_need(small: int, step: int, peak: int, more: int, batch: int) -> None:
    line = Line((small, small + step), (peak, peak + more))
    need = line.need(batch)
    assert need.median_bytes >= 1
    assert 0.05 <= need.sigma <= MOST_SIGMA
    assert need.quantile(0.05) <= need.quantile(0.95)


def test_what_was_not_measured_has_no_line() -> None:
    runs = (Run(1, GB, None, 1.0), Run(2, 2 * GB, 3 * GB, 1.0))
    probed = Probed("a", "default", "d", "batch", runs, None, "2026-11-28T00:00:00.000000Z")
    assert probed.vram() is None
    assert probed.ram() == Line((1, 2), (GB, 2 * GB))
    assert Probed.from_json(probed.to_json()) == probed
