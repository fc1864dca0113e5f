"""tools/measure_jobs.py: every row is a spec that gpujob takes, and a line is what was recorded."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jobs_kit
import pytest

from orchestrator.lifecycle.memory_needs import predicted_facts, subject
from orchestrator.planning.memory.estimate import estimate_memory
from orchestrator.spec.load import load_spec

sys.path.append(str(Path(__file__).parents[2] / "tools"))
import measure_jobs


@pytest.mark.parametrize("name", measure_jobs.ROWS)
def test_a_row_is_a_spec_with_a_prediction(name: str, tmp_path: Path) -> None:
    row = measure_jobs.ROWS[name]
    spec = load_spec(measure_jobs.write_spec(name, tmp_path))
    (need,) = predicted_facts(spec, tmp_path).needs.values()
    assert need.ram is not None
    assert spec.name == name
    (variant,) = spec.variants
    resolved = spec.resolved(variant.name)
    assert (resolved.setup is not None) is row.own
    assert (resolved.need.gpu is not None) is (row.own and row.job == "deepseek_ocr")  # no GPU here
    for place in measure_jobs.made_files(row, tmp_path).values():
        assert place in resolved.run


PAGE = (Path(__file__).parents[2] / "docs" / "measurements.md").read_text()
WAITING = re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| ([0-9.]+) \| ([0-9.]+) \|$", PAGE, re.MULTILINE)
"""Rows that wait for a GPU: name, and VRAM and RAM predicted, in GB."""


def test_the_page_has_every_row() -> None:
    assert {name for name, row in measure_jobs.ROWS.items() if row.needs_gpu} <= {name for name, *_ in WAITING}
    assert [name for name in measure_jobs.ROWS if f"| `{name}` |" not in PAGE] == []


@pytest.mark.parametrize(("name", "vram", "ram"), WAITING)
def test_what_waits_for_a_gpu_has_the_predictions_of_its_spec(name: str, vram: str, ram: str, tmp_path: Path) -> None:
    row = measure_jobs.ROWS[name]
    found = subject(jobs_kit.spec_of(row.job), row.variant, tmp_path)
    assert found is not None
    estimate = estimate_memory(found)
    assert (f"{estimate.vram_bytes / 1e9:.2f}", f"{estimate.ram_bytes / 1e9:.2f}") == (vram, ram)


def test_a_line_has_what_was_predicted_beside_what_was_measured() -> None:
    found = {
        "predicted_ram_bytes": 2_500_000_000, "peak_ram_bytes": 2_710_000_000, "run_seconds": 57.46,
        "at": "2026-11-28T09:33:00Z", "torch": {"peak_rss_bytes": 2_980_000_000}, "step_seconds": 21.46,
    }  # fmt: skip
    line = "| `sparsae-tiny` | 2.50 | 2.71 | 2.98 |  |  |  |  | 21.5 | 57.5 | 2026-11-28 |"
    assert measure_jobs.as_row("sparsae-tiny", found) == line
