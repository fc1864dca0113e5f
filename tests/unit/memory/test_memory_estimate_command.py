"""``gpujob estimate`` as a user runs it."""

import json
from pathlib import Path

import pytest

from orchestrator.cli.estimating import estimate_spec
from orchestrator.home import Home
from orchestrator.lifecycle.memory_needs import predicted_facts, subject
from orchestrator.planning.memory.capacity import gpu_fits
from orchestrator.planning.memory.estimate import estimate_memory
from orchestrator.planning.memory.levers import changed, largest_batch, largest_sequence, strongest_levers
from orchestrator.spec.load import load_spec
from orchestrator.spec.problems import SpecError

SPEC = """\
name: phi
run: python train.py
needs: {gpu: 1}
model: {hf: microsoft/phi-1_5, precision: amp-fp16, batch_size: 8, gradient_checkpointing: true}
variants:
  - name: amp
  - {name: twelve, model: {precision: fp16, optimizer: paged-adamw-32bit}}
  - {name: small, model: {hf: prajjwal1/bert-tiny, batch_size: 2}}
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "phi.yaml"
    path.write_text(SPEC)
    return path


def run(tmp_path, capsys, path: Path, gpu=None, variant=None, target=None, as_json=True):
    code = estimate_spec(Home(tmp_path / "home"), path, gpu, variant, target, {}, as_json=as_json)
    text = capsys.readouterr().out
    return code, json.loads(text) if as_json else text


def test_json_has_the_keys_of_the_documentation(tmp_path, capsys, spec):
    code, found = run(tmp_path, capsys, spec)
    assert code == 0
    assert set(found) == {"vram", "ram", "interval", "confidence", "fits", "levers", "largest", "notes"}
    assert set(found["vram"]) == {"peak_bytes", "allocated_bytes", "reserved_bytes", "phase", "terms"}
    assert found["vram"]["phase"] == "optimizer step"
    assert sum(found["vram"]["terms"].values()) == found["vram"]["peak_bytes"]
    assert sum(found["ram"]["terms"].values()) == found["ram"]["peak_bytes"]
    assert found["interval"]["p05"] < found["interval"]["p50"] == found["vram"]["peak_bytes"] < found["interval"]["p95"]
    assert [set(fit) for fit in found["fits"]] == [{"gpu", "capacity_bytes", "p_oom", "verdict"}] * len(found["fits"])


def test_document_001_is_refused_on_16_gb_and_a_way_is_shown(tmp_path, capsys, spec):
    code, found = run(tmp_path, capsys, spec, "RTX 4090 Laptop", "twelve")
    assert code == 3
    assert found["fits"][0]["verdict"] == "no"
    assert {lever["name"] for lever in found["levers"]} >= {"LoRA", "8-bit AdamW"}
    assert all(lever["peak_bytes"] < 16e9 for lever in found["levers"] if lever["memory"] == "vram")


def test_a_place_that_is_no_backend_is_judged_by_its_ram(tmp_path, capsys):
    path = tmp_path / "serve.yaml"
    model = "hf: facebook/convnext-base-224, task: infer, precision: fp32"
    path.write_text(f"name: serve\nrun: 'true'\nmodel: {{{model}, file_size: 1003 MB}}\n")
    code, found = run(tmp_path, capsys, path, target="railway-free")
    assert (code, found["vram"]["peak_bytes"]) == (3, 0)
    assert found["fits"][0]["p_oom"] > 0.99
    assert {key: found["fits"][0][key] for key in ("target", "capacity_bytes", "verdict")} == {
        "target": "railway-free", "capacity_bytes": 512_000_000, "verdict": "no"
    }  # fmt: skip
    code, _ = run(tmp_path, capsys, path, target="railway-pro")
    assert code == 0


def test_without_needs_a_gpu_is_assumed_and_none_is_taken_at_its_word(tmp_path, capsys):
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nrun: 'true'\nmodel: {hf: gpt2}\n")
    assert run(tmp_path, capsys, path)[1]["vram"]["peak_bytes"] > 0
    path.write_text("name: a\nrun: 'true'\nneeds: {gpu: none}\nmodel: {hf: gpt2}\n")
    found = run(tmp_path, capsys, path)[1]
    assert found["vram"]["peak_bytes"] == 0
    assert found["interval"]["p50"] == found["ram"]["peak_bytes"]


def test_the_picture_has_a_bar_for_each_term(tmp_path, capsys, spec):
    _, text = run(tmp_path, capsys, spec, as_json=False)
    for words in ("VRAM  29.1 GB", "optimizer states", "█", "What would lower it", "The largest that fits"):
        assert words in text


def test_needs_of_each_variant_for_the_planner(spec):
    needs = predicted_facts(load_spec(spec, {}), spec.parent).needs
    assert list(needs) == ["amp", "twelve", "small"]
    assert needs["amp"].vram.median_bytes > needs["twelve"].vram.median_bytes > needs["small"].vram.median_bytes
    assert needs["amp"].confidence == "high"
    assert needs["amp"].vram.sigma == 0.06


def test_what_does_not_go_together_is_told_with_its_variant(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(SPEC.replace("precision: fp16, optimizer", "quantization: gguf-q4_k_m, optimizer"))
    with pytest.raises(SpecError, match="variant 'twelve': gguf files are for inference"):
        load_spec(path, {})


def test_every_lever_is_recomputed(spec):
    found = subject(load_spec(spec, {}), "amp", spec.parent)
    before = estimate_memory(found)
    levers = strongest_levers(found, before)
    assert len(levers) == 3
    for lever in levers:
        assert estimate_memory(changed(found, **lever.change)).vram_bytes == lever.peak_bytes < before.vram_bytes
        assert lever.saved_bytes == before.vram_bytes - lever.peak_bytes


@pytest.mark.parametrize("capacity", [24 * 10**9, 80 * 10**9])
def test_one_more_than_the_largest_does_not_fit(spec, capacity):
    found = changed(subject(load_spec(spec, {}), "twelve", spec.parent), optimizer="adamw-8bit")
    batch, length = largest_batch(found, capacity), largest_sequence(found, capacity)
    assert batch >= 8
    for fitting, too_much in (
        (changed(found, batch_size=batch), changed(found, batch_size=batch + 1)),
        (changed(found, seq_len=length), changed(found, seq_len=length + 1)),
    ):
        assert estimate_memory(fitting).interval()["p95"] <= capacity * 1.001
        assert estimate_memory(too_much).interval()["p95"] > capacity * 0.999


def test_gpus_are_judged_by_what_they_can_give(spec):
    from orchestrator.catalog.gpus import bundled_gpus

    fits = gpu_fits(estimate_memory(subject(load_spec(spec, {}), "amp", spec.parent)), bundled_gpus().gpus)
    capacities = [fit.capacity_bytes for fit in fits]
    chances = [fit.p_oom for fit in fits]
    assert capacities == sorted(capacities)
    assert chances == sorted(chances, reverse=True)
    assert next(fit for fit in fits if fit.name == "T4").capacity_bytes < 15.7e9
