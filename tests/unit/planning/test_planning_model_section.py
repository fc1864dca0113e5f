"""From a spec's model section to what the planner is told, and what is kept of it with the job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from planning_kit import GB, gpu_machine, plan, rungs

from orchestrator.catalog.model_files import ModelFileError
from orchestrator.lifecycle.memory_needs import needs_by_lever, predicted_facts
from orchestrator.lifecycle.planning import recordable, recorded_facts
from orchestrator.planning.need import MemoryNeed, VariantNeed
from orchestrator.planning.outlook import Facts
from orchestrator.planning.whatif import what_if
from orchestrator.records.tables import Job
from orchestrator.spec.load import load_spec
from orchestrator.spec.model import JobSpec

PHI = """\
name: phi
run: python train.py
needs: {gpu: 1}
model: {hf: microsoft/phi-1_5, precision: amp-fp16, batch_size: 8, gradient_checkpointing: true}
variants:
  - {name: full, quality: 1.0}
  - {name: lora, quality: 0.9, model: {method: lora}}
"""


def spec_of(folder: Path, text: str = PHI) -> JobSpec:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return load_spec(path)


def test_a_need_is_of_the_family_that_its_ratios_are_shared_by(tmp_path):
    needs = predicted_facts(spec_of(tmp_path), tmp_path).needs
    assert [needs[name].vram.source for name in ("full", "lora")] == ["phi full", "phi lora"]


def test_a_rung_says_its_chance_to_run_out_and_why(tmp_path):
    spec = spec_of(tmp_path)
    facts = predicted_facts(spec, tmp_path)
    made = plan(spec, gpu_machine("t4", vram=15.6, ram=32), gpu_machine("a100", "A100", vram=79, ram=90), facts=facts)
    assert rungs(made)[:1] == [("full", "a100")]
    said = "; ".join(made.ladder[0].reasons)
    assert "VRAM predicted: 29.1 GB, with 95 % chance below" in said
    assert "(high confidence); has 79 GB: <0.1% chance to run out" in said
    assert ("full", "t4") not in rungs(made)


def test_what_is_special_about_a_machine_is_among_the_reasons(tmp_path):
    spec = spec_of(tmp_path)
    offer = replace(gpu_machine("a100", "A100", vram=79, ram=90), caveat="1 GB of its VRAM are in use by the display")
    assert plan(spec, offer, facts=predicted_facts(spec, tmp_path)).ladder[0].reasons[-1] == offer.caveat


def test_a_model_that_nobody_knows_is_planned_by_what_is_declared_and_says_so(tmp_path):
    spec = spec_of(tmp_path, "name: odd\nrun: 'true'\nneeds: {gpu: {count: 1, vram: 8GB}}\nmodel: {hf: me/mine}\n")
    needs = predicted_facts(spec, tmp_path).needs
    assert needs["default"].vram is None
    reasons = "; ".join(plan(spec, gpu_machine("t4"), facts=Facts(needs)).ladder[0].reasons)
    assert "the spec declares that 8 GB of VRAM is enough" in reasons
    assert "memory is not predicted: me/mine is not in the bundled table" in reasons


def test_what_the_hub_said_before_is_used_without_asking_it(tmp_path):
    (tmp_path / "me--mine.json").write_text('{"BF16": 1000000000}', encoding="utf-8")
    needs = predicted_facts(spec_of(tmp_path, PHI.replace("microsoft/phi-1_5", "me/mine")), tmp_path).needs
    assert needs["full"].confidence == "low"
    assert needs["full"].vram.median_bytes > 16 * GB


def test_a_config_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ModelFileError, match=r"config\.json"):
        predicted_facts(spec_of(tmp_path, PHI.replace("hf: microsoft/phi-1_5", "config: config.json")), tmp_path)


def test_a_setting_that_makes_it_fit_is_named(tmp_path):
    spec = spec_of(tmp_path, PHI.partition("variants")[0])
    needs = predicted_facts(spec, tmp_path).needs
    levers = {words: Facts(found) for words, found in needs_by_lever(spec, needs, tmp_path).items()}
    offer = gpu_machine("own", vram=23.5, ram=64)

    def again(*, budget_micros=None, priority=None, facts=None):
        return plan(spec, offer, facts=facts or Facts(needs))

    said = what_if(again(), again, levers)
    assert any(words.startswith("8-bit AdamW (optimizer: adamw-8bit): default on cloud own, free") for words in said)


def test_no_lever_without_a_model_section(tmp_path):
    spec = spec_of(tmp_path, "name: plain\nrun: 'true'\n")
    assert predicted_facts(spec, tmp_path) == Facts()
    assert needs_by_lever(spec, {}, tmp_path) == {}


def test_needs_survive_the_journal():
    need = VariantNeed(MemoryNeed(3, 0.1, "phi full", 2, (0.9, 1.1)), None, "high", ("a note",))
    assert VariantNeed.from_json(json.loads(json.dumps(need.to_json()))) == need


def test_steps_tell_the_arithmetic_and_what_kind_it_is(tmp_path):
    """6 FLOP per weight and token (Kaplan et al. 2020), and a third more with checkpointing; LoRA saves a third."""
    works = predicted_facts(
        spec_of(tmp_path, PHI.replace("batch_size: 8", "batch_size: 8, steps: 1000")), tmp_path
    ).workloads
    tokens, weights = 8 * 512 * 1000, 1_418_270_720 - 51_200 * 2048
    assert works["full"].flops == pytest.approx(8 * weights * tokens)
    assert works["lora"].flops == pytest.approx(6 * weights * tokens)
    assert works["full"].bound == "compute"
    assert works["full"].download_bytes == 2 * 1_418_270_720


def test_generating_is_bound_by_memory_and_its_time_unknown_without_steps(tmp_path):
    works = predicted_facts(spec_of(tmp_path, "name: a\nrun: x\nmodel: {hf: gpt2, task: infer}\n"), tmp_path).workloads
    assert (works["default"].bound, works["default"].flops) == ("memory", None)


def test_what_was_predicted_is_kept_with_the_job(tmp_path):
    facts = predicted_facts(spec_of(tmp_path), tmp_path)
    options = json.dumps({"predicted": recordable(facts)})
    job = Job(id="a", name="a", budget_micros=0, priority="cost", spec="{}", options=options, created_at="")
    assert recorded_facts(job) == facts
    job.options = "{}"
    assert recorded_facts(job) == Facts()
