"""Traces of real transformers code: against other traces, against arithmetic, and within their bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exact_kit import as_model, golden_rows, subject, traced

from orchestrator.cli.estimating import estimate_spec
from orchestrator.home import Home
from orchestrator.lifecycle.exact import run_trace
from orchestrator.planning.memory.estimate import estimate_memory
from orchestrator.planning.memory.exact import trace_request

pytestmark = pytest.mark.needs("torch")

SMALL = [row for row in golden_rows() if row["model"] == "berttiny"]
LARGE = [row for row in golden_rows() if row["model"] in ("phi1.5", "gpt2nd")][7:10]
PHASES = {"loss_bwd": "forward+loss", "opt_step": "optimizer step", "backward": "backward"}
LLAMA = {
    "model_type": "llama", "num_hidden_layers": 4, "hidden_size": 256, "intermediate_size": 1024,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 8192, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.mark.parametrize("row", [*SMALL, *LARGE], ids=lambda row: f"{row['model']}-{row['precision']}-{row['batch']}")
def test_the_peaks_of_another_tracer_are_met(row: dict[str, str]) -> None:
    found = traced(**as_model(row))
    assert found.allocated_bytes / 1e9 == pytest.approx(float(row["peak_allocated_gb"]), rel=0.002)
    assert found.phase == PHASES[row["peak_phase"]]
    assert sum(found.terms.values()) == found.allocated_bytes
    assert found.allocated_bytes <= found.needed_bytes <= found.reserved_bytes


def test_what_lasts_is_known_to_the_byte() -> None:
    found = traced(hf="gpt2", batch_size=1, seq_len=64, precision="fp32", dropout=False)
    assert found.phase == "optimizer step"
    for term in ("weights", "gradients", "optimizer's copy"):
        assert found.terms[term] == pytest.approx(4 * 124_439_808, rel=0.001), term
    assert found.terms["optimizer states"] == pytest.approx(8 * 124_439_808, rel=0.001)
    assert found.parameters == 124_439_808


@pytest.mark.parametrize(
    ("optimizer", "each"),
    [("adamw-fused", 8), ("sgd", 0), ("sgd-momentum", 4), ("adamw-8bit", 2.03), ("paged-adamw-32bit", 8)],
)
def test_optimizers_keep_their_states(optimizer: str, each: float) -> None:
    found = traced(LLAMA, config="c", optimizer=optimizer, precision="fp32", batch_size=4, seq_len=256)
    assert found.terms.get("optimizer states", 0) == pytest.approx(each * found.parameters, rel=0.02)


def test_adapters_leave_the_weights_without_gradients_and_in_16_bit() -> None:
    found = traced(LLAMA, config="c", method="lora", precision="amp-bf16", batch_size=4, lora={"targets": "all-linear"})
    assert 0 < found.terms["adapters"] < found.terms["weights"] / 4
    plain = traced(LLAMA, config="c", precision="bf16", batch_size=4)
    assert found.terms["weights"] == pytest.approx(plain.terms["weights"], rel=0.01)


def test_checkpointing_and_accumulation_and_dropout_change_what_they_should() -> None:
    usual = traced(LLAMA, config="c", batch_size=8, seq_len=512).allocated_bytes
    assert traced(LLAMA, config="c", batch_size=8, seq_len=512, gradient_checkpointing=True).allocated_bytes < usual
    assert traced(LLAMA, config="c", batch_size=8, seq_len=512, grad_accumulation=4).terms["gradients"] > 0
    calm, dropping = (traced(hf="prajjwal1/bert-tiny", batch_size=32, dropout=on) for on in (False, True))
    masks = 32 * 512 * 128 * (2 * 2 + 1)  # two of each block, and one of the embedding
    assert dropping.allocated_bytes - calm.allocated_bytes == pytest.approx(masks, rel=0.5)


def test_changing_lengths_fragment_memory() -> None:
    fixed, dynamic = (traced(LLAMA, config="c", batch_size=8, lengths=lengths) for lengths in ("fixed", "dynamic"))
    assert dynamic.allocated_bytes == fixed.allocated_bytes
    assert dynamic.reserved_bytes > fixed.reserved_bytes


def test_generating_holds_the_cache() -> None:
    found = traced(LLAMA, config="c", task="infer", batch_size=4, seq_len=128, kv_cache_tokens=4096)
    assert found.terms["KV cache"] == pytest.approx(2 * 4 * 2 * 32 * 2 * 4 * 4096, rel=0.3)
    assert found.phase == "generate"


def test_formulas_and_trace_agree_on_a_family_that_is_known() -> None:
    model = {"hf": "meta-llama/Llama-3.2-1B", "batch_size": 2, "seq_len": 512, "gradient_checkpointing": True}
    assert estimate_memory(subject(**model)).allocated_bytes == pytest.approx(traced(**model).allocated_bytes, rel=0.01)


def test_an_encoder_of_images() -> None:
    model = {"hf": "google/vit-base-patch16-224", "batch_size": 8}
    assert traced(**model).allocated_bytes == pytest.approx(estimate_memory(subject(**model)).allocated_bytes, rel=0.05)


def test_code_that_a_config_names_is_neither_run_nor_fetched() -> None:
    own = {**LLAMA, "auto_map": {"AutoModelForCausalLM": "somebody/else--modeling.Evil"}}
    assert traced(own, config="c").parameters == traced(LLAMA, config="c").parameters


def test_a_model_type_that_transformers_does_not_know() -> None:
    config = {**LLAMA, "model_type": "never-seen"}
    said = run_trace(trace_request(subject(config, config="c"), config))
    assert said == "never-seen was not traced: this version of transformers knows no model type 'never-seen'"


def test_the_ram_that_it_may_take_is_bounded() -> None:
    request = {**trace_request(subject(hf="gpt2"), None), "ram_bytes": 30_000_000}
    assert "gpt2 was not traced" in str(run_trace(request))


def test_estimate_exact_as_a_user_runs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nrun: 'true'\nmodel: {config: config.json, batch_size: 16, precision: fp32}\n")
    home = Home(tmp_path / "home")
    assert estimate_spec(home, path, "T4", None, None, {}, exact=True, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exact"]["traced"] is True
    assert set(found["exact"]) == {
        "traced", "why", "parameters", "seconds", "torch", "transformers", "needed_bytes", "formulas"
    }  # fmt: skip
    assert sum(found["vram"]["terms"].values()) == found["vram"]["peak_bytes"]
    assert found["exact"]["formulas"]["allocated_bytes"] == pytest.approx(found["vram"]["allocated_bytes"], rel=0.02)
    assert estimate_spec(home, path, None, None, None, {}, exact=True, as_json=False) == 0
    assert "traced in" in capsys.readouterr().out
