"""Against published peaks of real GPUs, each at the metric that its source measured."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import memory as benchmark


def test_single_gpu_runs_of_hugging_face_are_met_within_8_percent_at_the_median():
    compared = benchmark.compared_rows()
    assert len(compared) >= 70
    assert benchmark.median_error(compared) < 0.08


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_each_method_is_met_within_8_percent_at_the_median(method):
    assert benchmark.median_error([row for row in benchmark.compared_rows() if row.method == method]) < 0.08


def test_out_of_memory_is_called_right_in_95_percent():
    calls = benchmark.oom_calls()
    assert len(calls) >= 60
    assert sum(call.right for call in calls) / len(calls) >= 0.95


def test_impossible_rows_are_listed_and_not_compared():
    listed = benchmark.impossible_rows()
    assert listed
    assert not {id(row) for row in listed} & {id(each.source) for each in benchmark.compared_rows()}
