"""Subjects beside plain transformers: encoder-decoders, compiled models, tuned variants of catalogued ones."""

import pytest
from memory_kit import GB, estimate, rows, subject

from orchestrator.catalog.architecture import from_config
from orchestrator.catalog.models import bundled_models
from orchestrator.planning.memory.levers import largest_sequence


@pytest.mark.parametrize("row", rows("traced_encoder_decoders.csv"), ids=lambda row: f"{row['hf']} {row['precision']}")
def test_encoder_decoders_are_met_within_four_percent(row):
    """Whole models of transformers 5.23, one step with fused AdamW, traced with fake tensors."""
    found = estimate(
        hf=row["hf"],
        precision={"amp": "amp-bf16"}.get(row["precision"], row["precision"]),
        gradient_checkpointing=row["gradient_checkpointing"] == "1",
        batch_size=int(row["batch"]),
        seq_len=int(row["source"]),
        target_len=int(row["target"]),
        dropout=False,
        optimizer="adamw-fused",
    )
    assert found.allocated_bytes / GB == pytest.approx(float(row["peak_allocated_gb"]), rel=0.04)
    assert found.confidence == "medium"


def test_both_sides_of_an_encoder_decoder_are_held():
    t5 = {"hf": "google-t5/t5-base", "batch_size": 8}
    short = estimate(**t5, seq_len=512, target_len=64).allocated_bytes
    assert estimate(**t5, seq_len=1024, target_len=64).allocated_bytes > short
    assert estimate(**t5, seq_len=512, target_len=256).allocated_bytes > short


def test_whisper_reads_windows_of_thirty_seconds_whatever_the_text():
    whisper = {"hf": "openai/whisper-small", "batch_size": 8, "precision": "amp-fp16"}
    assert subject(**whisper, seq_len=100).recipe.sizes().source == 1500
    assert subject(**whisper, seq_len=4000).recipe.sizes().seq == 448
    assert largest_sequence(subject(**whisper), 80 * GB) == 448


def test_a_config_of_an_encoder_decoder_is_read_with_both_sides():
    config = {
        "model_type": "t5", "d_model": 768, "d_ff": 2048, "d_kv": 64, "num_heads": 12, "num_layers": 12,
        "num_decoder_layers": 12, "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    }  # fmt: skip
    found = from_config(config)
    known = bundled_models().find("google/flan-t5-base")
    assert found.encoder
    assert known
    assert (found.model_type, found.encoder.layers) == ("t5_gated", 12)
    assert found.params == pytest.approx(known.params, rel=0.01)


def test_compiling_lowers_activations_and_widens_the_interval():
    model = {"hf": "meta-llama/Llama-3.2-3B", "batch_size": 2, "seq_len": 4096}
    plain, compiled = estimate(**model), estimate(**model, compile=True)
    assert 0.8 < compiled.allocated_bytes / plain.allocated_bytes < 0.95
    assert compiled.sigma > plain.sigma


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B"),
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "meta-llama/Llama-3.2-1B"),
        ("google/gemma-3-1b-it", "google/gemma-3-1b-pt"),
        ("codellama/CodeLlama-7b-Instruct-hf", "codellama/CodeLlama-7b-hf"),
        ("bert-base-uncased", "google-bert/bert-base-uncased"),
    ],
)
def test_a_tuned_model_has_the_shape_of_what_it_was_tuned_from(name, known):
    found = bundled_models().find(name)
    assert found is not None
    assert found.name == known


def test_every_row_of_the_table_of_models_says_where_it_is_from():
    assert {bundled_models().find(name).confidence for name in bundled_models().names()} <= {"high", "medium", "low"}


def test_a_shape_that_nobody_has_seen_is_told_with_low_confidence():
    assert estimate(hf="deepencoder-sam-base", task="infer").confidence == "low"


KLEIN = {"hf": "black-forest-labs/FLUX.2-klein-base-4B", "batch_size": 2, "image_size": 512, "precision": "bf16",
         "gradient_checkpointing": True}  # fmt: skip


@pytest.mark.parametrize(("method", "measured"), [("full", 39.87), ("lora", 10.71)])
def test_a_diffusion_model_is_near_what_peft_measured_of_one(method, measured):
    """Reserved memory on an L40S with rank 32; no constant is from these rows."""
    found = estimate(**KLEIN, method=method, lora={"rank": 32}, optimizer="adamw")
    assert found.reserved_bytes / GB == pytest.approx(measured, rel=0.15)
    assert found.confidence == "low"
    assert "sum of parts" in found.notes[0]


def test_generating_images_holds_all_parts_and_decodes_them():
    found = estimate(hf="stabilityai/stable-diffusion-xl-base-1.0", task="infer", precision="fp16")
    assert found.phase == "decode images"
    assert found.vram_terms["text encoder"] == 2 * 817_720_320
    assert sum(found.vram_terms.values()) == found.vram_bytes
    larger = estimate(hf="stabilityai/stable-diffusion-xl-base-1.0", task="infer", precision="fp16", image_size=2048)
    assert larger.vram_bytes > found.vram_bytes


def test_parts_that_see_are_held_where_they_are_trained():
    ocr = {"hf": "deepseek-ai/DeepSeek-OCR", "batch_size": 8, "seq_len": 128}
    small, large = (estimate(**ocr, image_size=size).allocated_bytes for size in (512, 1536))
    assert large > small
    frozen = [estimate(**ocr, image_size=size, method="lora").allocated_bytes for size in (512, 1536)]
    assert frozen[0] == frozen[1]


def test_deepspeed_adds_fp32_gradients_of_its_share_at_the_step():
    """2P + 18P/N at stage 2, as DeepSpeed's own code counts: stage_1_and_2.py."""
    model = {"hf": "meta-llama/Llama-2-7b-hf", "gradient_checkpointing": True, "optimizer": "adamw-fused"}
    params = subject(hf=model["hf"]).recipe.arch.params
    states = estimate(**model, gpus=8, zero_stage=2)
    assert states.allocated_bytes == pytest.approx(2 * params + 18 * params / 8, rel=0.01)
    assert "fp32 gradients" in states.vram_terms
