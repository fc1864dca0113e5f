"""Exact mode where nothing can be traced: every reason is a sentence, and the formulas speak instead."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from memory_kit import subject

from orchestrator.cli.estimating import estimate_spec
from orchestrator.home import Home
from orchestrator.lifecycle.exact import run_trace
from orchestrator.planning.memory.estimate import estimate_memory
from orchestrator.planning.memory.exact import Traced, trace_request, traced_estimate

GPT2 = {"hf": "gpt2", "batch_size": 8}


def python(folder: Path, script: str) -> str:
    """A program in the place of Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_without_torch_it_says_how_to_get_it(tmp_path: Path) -> None:
    bare = python(tmp_path, f'exec {sys.executable} -S "$@"')
    said = run_trace(trace_request(subject(**GPT2), None), python=bare)
    assert said.startswith("gpt2 was not traced: torch is not installed in this environment. Install torch")
    assert "gpujob[exact]" in said


def test_a_trace_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    said = run_trace(trace_request(subject(**GPT2), None), 0.1, python=python(tmp_path, "exec sleep 600"))
    assert said == "gpt2 was not traced: it took longer than 0.1 s"


def test_a_tracer_that_dies_is_told_by_its_last_word(tmp_path: Path) -> None:
    request = trace_request(subject(**GPT2), None)
    said = run_trace(request, python=python(tmp_path, "echo std::bad_alloc >&2; kill -6 $$"))
    assert said == "gpt2 was not traced: the tracer ended with -6 (std::bad_alloc)"
    assert run_trace(request, python=python(tmp_path, "kill -9 $$")) == "gpt2 was not traced: the tracer ended with -9"


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"hf": "gpt2", "method": "qlora"}, "quantised to nf4"),
        ({"params": "350M"}, "only the number of parameters is known"),
        ({"hf": "microsoft/resnet-50"}, "nets of convolutions"),
        ({"hf": "gpt2", "zero_stage": 2, "gpus": 2}, "sharded or offloaded"),
        ({"hf": "gpt2", "chunked_loss": True}, "a loss in chunks"),
        ({"hf": "deepseek-ai/DeepSeek-OCR", "task": "infer"}, "several parts"),
        ({"hf": "mistralai/Mixtral-8x7B-v0.1", "task": "infer"}, "mixture of experts"),
        ({"probe": {"small_peak": "1 GB", "large_peak": "2 GB"}}, "measured batches"),
    ],
)
def test_what_cannot_be_traced_is_known_before(model: dict[str, object], why: str) -> None:
    found = run_trace(trace_request(subject(**model), None), python="/nowhere")
    assert why in found


def test_a_trace_replaces_vram_and_leaves_ram() -> None:
    found = subject(**GPT2)
    before = estimate_memory(found)
    traced = Traced(10**9, 12 * 10**8, 11 * 10**8, "backward", {"weights": 10**9}, 1, 1.0, "2.13", "5.23")
    after = traced_estimate(found, before, traced)
    assert (after.allocated_bytes, after.reserved_bytes, after.phase) == (10**9, 12 * 10**8, "backward")
    assert sum(after.vram_terms.values()) == after.vram_bytes == 12 * 10**8 + before.vram_terms["CUDA context"]
    assert after.needed_bytes == after.vram_bytes - 10**8
    assert (after.ram_bytes, after.ram_terms) == (before.ram_bytes, before.ram_terms)


def test_estimate_falls_back_to_the_formulas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nrun: 'true'\nmodel: {hf: gpt2, method: qlora}\n")
    plain, exact = (_estimated(tmp_path, path, capsys, exact=exact) for exact in (False, True))
    assert exact.pop("exact") == {
        "traced": False,
        "why": "gpt2 was not traced: the kernels of weights quantised to nf4 cannot be traced",
    }
    assert exact == plain
    assert estimate_spec(Home(tmp_path / "home"), path, None, None, None, {}, exact=True, as_json=False) == 0
    assert "by formulas. gpt2 was not traced" in capsys.readouterr().out


def _estimated(tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str], *, exact: bool) -> dict[str, object]:
    assert estimate_spec(Home(tmp_path / "home"), path, None, None, None, {}, exact=exact, as_json=True) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found
