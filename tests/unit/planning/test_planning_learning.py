"""Calibration of memory needs by what earlier runs took."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planning.learning import Calibration, Measured, Observed, Subject, calibrate, upper_bound
from orchestrator.planning.learning.conformal import uncensored
from orchestrator.planning.learning.robust import Point, fit_line, weighted_median
from orchestrator.planning.need import MemoryNeed, VariantNeed

GB = 10**9
JOB = Subject("ocr", "full", config="abc", family="llama", gpu="T4", stack="torch 2.8")
NEED = VariantNeed(vram=MemoryNeed(10 * GB, 0.06), ram=None, confidence="high")


def ran(subject: Subject, predicted: float, took: float, *, oom: bool = False) -> Observed:
    return Observed(subject, vram=Measured(round(took * GB), round(predicted * GB), censored=oom))


def vram(need: VariantNeed, subject: Subject, seen: list[Observed]) -> MemoryNeed:
    found = calibrate(need, subject, seen).vram
    assert found is not None
    return found


def test_without_observations_nothing_changes():
    assert calibrate(NEED, JOB, []) == NEED


def test_a_run_of_the_same_configuration_settles_the_matter():
    calibrated = calibrate(NEED, JOB, [ran(JOB, 10, 12)])
    assert calibrated.vram is not None
    assert calibrated.vram.median_bytes == pytest.approx(12 * GB, rel=0.02)
    assert calibrated.vram.sigma < 0.03
    assert calibrated.confidence == "measured"
    assert calibrated.notes == ("VRAM: one earlier run took 1.18 x the prediction",)


def test_a_run_with_other_settings_moves_it_half_way():
    need = vram(NEED, JOB, [ran(JOB, 5, 6)])
    assert need.median_bytes == pytest.approx(10 * math.sqrt(1.2) * GB, rel=0.02)
    assert calibrate(NEED, JOB, [ran(JOB, 5, 6)]).confidence == "high"


def test_relatives_move_a_new_job():
    relatives = [ran(Subject(f"job-{i}", "a", family="llama", gpu="T4", stack="torch 2.8"), 10, 13) for i in range(9)]
    strangers = [Observed(Subject(o.subject.name, "a", family="gpt2", gpu="A100"), o.vram) for o in relatives]
    assert vram(NEED, JOB, relatives).median_bytes > 12 * GB
    assert vram(NEED, JOB, strangers).median_bytes == 10 * GB


def test_a_gpu_that_takes_more_than_predicted_gets_a_line_of_its_own():
    dice = random.Random(1)
    seen = []
    for i in range(60):
        size = dice.uniform(2, 60)
        seen.append(ran(Subject(f"job-{i}", "a", gpu="A100"), size, 1.127 * size + 1.94))
    new = Subject("new", "a", gpu="A100")
    assert vram(NEED, new, seen).median_bytes == pytest.approx(13.21 * GB, rel=0.02)
    assert vram(NEED, Subject("new", "a", gpu="H100"), seen).median_bytes == pytest.approx(10 * GB, rel=0.1)


def test_an_oom_of_the_same_configuration_rules_its_capacity_out_at_once():
    need = vram(NEED, JOB, [ran(JOB, 10, 12, oom=True)])
    assert need.p_oom(12 * GB) == 1.0
    assert need.quantile(0.5) > 12 * GB
    assert need.p_oom(80 * GB) < 0.01


def test_an_oom_of_the_same_configuration_counts_once():
    """It is a floor of the need. As a ratio it would also move the median, and narrow the spread like a measurement."""
    assert vram(NEED, JOB, [ran(JOB, 10, 11, oom=True)]) == MemoryNeed(10 * GB, 0.06, floor_bytes=11 * GB)
    other = ran(Subject("other", "a", family="gpt2", gpu="A100"), 10, 10.5)
    with_oom = vram(NEED, JOB, [other, ran(JOB, 10, 11, oom=True)])
    assert with_oom == vram(NEED, JOB, [other]).above(11 * GB)


def test_an_oom_with_other_settings_moves_the_ratio_only_upwards():
    worse = vram(NEED, JOB, [ran(JOB, 20, 30, oom=True)])
    expected_anyway = vram(NEED, JOB, [ran(JOB, 20, 15, oom=True)])
    assert worse.median_bytes > 11 * GB
    assert expected_anyway.median_bytes == pytest.approx(10 * GB, rel=0.01)
    assert expected_anyway.p_oom(15 * GB) < 0.2


def test_without_a_prediction_what_runs_took_is_the_need():
    unpredicted = VariantNeed(vram=None, ram=None, confidence="low")
    seen = [Observed(JOB, ram=Measured(took * GB)) for took in (4, 5, 6)]
    calibrated = calibrate(unpredicted, JOB, seen)
    assert calibrated.vram is None
    assert calibrated.ram is not None
    assert calibrated.ram.median_bytes == 5 * GB
    assert calibrated.confidence == "measured"
    other_files = Subject("ocr", "full", config="def")
    assert calibrate(unpredicted, other_files, seen).ram is None


def test_ram_is_learned_across_gpus():
    need = VariantNeed(vram=None, ram=MemoryNeed(10 * GB, 0.15), confidence="medium")
    on_a100 = Subject("ocr", "full", config="abc", family="llama", gpu="A100", stack="torch 2.8")
    found = calibrate(need, JOB, [Observed(on_a100, ram=Measured(14 * GB, 10 * GB))]).ram
    assert found is not None
    assert found.median_bytes == pytest.approx(14 * GB, rel=0.04)


def test_bounds_are_conformal_once_there_are_enough_ratios():
    ratios = tuple(1 + i / 100 for i in range(39))
    need = MemoryNeed(100, 0.06, ratios=ratios)
    assert upper_bound(need, 0.10) == 135, "the 36th of 39"
    assert upper_bound(MemoryNeed(10 * GB, 0.15), 0.05) == pytest.approx(12.9 * GB, rel=0.02)


def test_the_weight_of_an_oom_goes_to_the_ratios_above_it():
    found = uncensored([(1.0, False), (1.2, False), (1.4, False), (1.1, True), (0.9, True), (2.0, True)])
    assert len(found) == 6
    assert found.count(1.0) + found.count(1.2) + found.count(1.4) == 5
    assert found[-1] == 2.0


def test_the_line_ignores_wild_points():
    points = [Point(x * 1e9, 1.1 * x * 1e9 + 1e9) for x in range(1, 40)]
    wild = [Point(x * 1e9, 9 * x * 1e9) for x in (3, 7, 20)]
    line = fit_line([*points, *wild])
    assert line.slope == pytest.approx(1.1, rel=0.01)
    assert line.offset == pytest.approx(1e9, rel=0.02)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 5)), min_size=1, max_size=40))
def test_half_of_the_weight_lies_on_each_side_of_the_median(values):
    middle = weighted_median(values)
    total = sum(weight for _, weight in values)
    assert sum(w for v, w in values if v < middle) <= total / 2 + 1e-9
    assert sum(w for v, w in values if v > middle) <= total / 2 + 1e-9


def test_a_calibration_can_be_asked_for_many_variants():
    seen = [ran(JOB, 10, 12)] * 30
    learned = Calibration(seen)
    needs = [learned.of(VariantNeed(MemoryNeed(p * GB, 0.06), None, "high"), JOB).vram for p in (5, 10, 20)]
    assert [n.median_bytes for n in needs if n] == sorted(n.median_bytes for n in needs if n)
