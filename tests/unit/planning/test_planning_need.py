"""The need for memory as a distribution: chances, quantiles and what an out-of-memory teaches."""

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planning.need import MemoryNeed

GB = 10**9
NEEDS = st.builds(
    MemoryNeed,
    median_bytes=st.integers(10**8, 10**12),
    sigma=st.floats(0.01, 0.5),
    floor_bytes=st.integers(0, 10**12),
    ratios=st.lists(st.floats(0.5, 3.0), max_size=30).map(lambda found: tuple(sorted(found))),
)


def test_the_median_is_the_median():
    need = MemoryNeed(10 * GB, 0.06)
    assert need.p_oom(10 * GB) == pytest.approx(0.5)
    assert need.quantile(0.5) == pytest.approx(10 * GB, rel=1e-6)


def test_near_the_median_it_is_the_log_normal():
    need = MemoryNeed(10 * GB, 0.1)
    exact = 1 - NormalDist(0, 0.1).cdf(math.log(1.1))
    assert need.p_oom(11 * GB) == pytest.approx(exact, abs=0.01)


def test_a_capacity_that_ran_out_is_ruled_out_and_the_rest_becomes_likelier():
    need = MemoryNeed(15 * GB, 0.15)
    after = need.above(16 * GB)
    assert after.p_oom(16 * GB) == 1.0
    assert after.p_oom(24 * GB) > need.p_oom(24 * GB)
    assert need.p_oom(24 * GB, given_above=16 * GB) == after.p_oom(24 * GB)


def test_an_oom_far_above_the_prediction_moves_the_need_far_up():
    after = MemoryNeed(10 * GB, 0.06).above(16 * GB)
    assert 0.2 < after.p_oom(round(17.6 * GB)) < 0.95, "not just a hair above 16 GB"
    assert after.quantile(0.9) > 20 * GB


def test_measured_ratios_outweigh_the_prior():
    tight = MemoryNeed(10 * GB, 0.15, ratios=(1.0,) * 200)
    assert tight.p_oom(11 * GB) < MemoryNeed(10 * GB, 0.15).p_oom(11 * GB) / 5


@given(NEEDS, st.integers(1, 10**13), st.integers(1, 10**13))
def test_more_capacity_never_raises_the_chance_of_running_out(need, one, other):
    small, big = sorted((one, other))
    assert 0 <= need.p_oom(big) <= need.p_oom(small) <= 1


@given(NEEDS, st.floats(0.01, 0.99))
def test_a_quantile_suffices_with_its_chance(need, p):
    enough = need.quantile(p)
    assert need.p_oom(enough) <= 1 - p + 1e-9
    assert need.p_oom(enough - max(2, enough // 10**6)) >= 1 - p - 1e-6
