"""Bounds on memory hold as often as they claim, on the generated jobs of the benchmark."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_realised_coverage_follows_nominal(benchmark):
    found = list(benchmark.forecasts(benchmark.generated(400, seed=3)))[80:]
    assert 0.86 <= benchmark.coverage(found, 0) <= 0.95
    assert 0.92 <= benchmark.coverage(found, 1) <= 0.98
    assert 0.85 <= sum(f.inside for f in found) / len(found) <= 0.95
    own = [f for f in found if f.had_own_runs]
    assert 0.85 <= benchmark.coverage(own, 0) <= 0.97
