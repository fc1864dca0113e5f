"""Host RAM by the dtype rule, loads that end with exit -9, and places that are no backend."""

import json
import struct
from dataclasses import replace

import pytest
from memory_kit import GB, estimate, rows, subject

from orchestrator.catalog.architecture import from_config
from orchestrator.catalog.model_files import ModelFileError, read_config, safetensors_counts
from orchestrator.catalog.models import bundled_models
from orchestrator.catalog.places import bundled_targets
from orchestrator.planning.memory.capacity import target_fit
from orchestrator.planning.memory.estimate import estimate_memory
from orchestrator.planning.memory.levers import ram_lever
from orchestrator.planning.memory.subject import Files, UnknownModelError
from orchestrator.spec.neural import NeuralModel

OCR = {"hf": "deepseek-ai/DeepSeek-OCR", "task": "infer", "precision": "fp16", "seq_len": 1024}
SHORT = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}


def measured_loads():
    return [row for row in rows("host_ram_peaks.csv") if row["peak_rss_anon_gb"] and row["params"] == "1418270720"]


@pytest.mark.parametrize("row", measured_loads(), ids=lambda r: f"{r['transformers']}-{r['target_dtype']}")
def test_measured_loads_of_phi(row):
    found = estimate(
        hf="microsoft/phi-1_5", task="infer", precision="bf16", file_dtype="bf16", load_dtype=SHORT[row["target_dtype"]]
    )
    without_cuda = found.ram_bytes - found.ram_terms["CUDA runtime"]
    assert without_cuda / GB == pytest.approx(float(row["peak_rss_anon_gb"]), abs=0.3)


def test_deepseek_ocr_dies_on_colab_and_one_argument_mends_it():
    colab = bundled_targets()["colab-free"]
    died = estimate(**OCR, transformers=4)
    assert died.ram_terms["weights being loaded"] == pytest.approx(13.3 * GB, rel=0.01)
    assert target_fit(died, colab).p_oom > 0.95
    assert "pass dtype=torch.bfloat16" in died.notes[0]
    on_t4 = estimate(**OCR, transformers=4, load_dtype="fp16")
    assert target_fit(on_t4, colab).p_oom < 0.05
    lever = ram_lever(subject(**OCR, transformers=4), died)
    assert lever is not None
    assert lever.change == {"load_dtype": "auto"}
    assert lever.saved_bytes == pytest.approx(13.3 * GB, rel=0.01)


def test_transformers_5_loads_what_the_file_holds():
    assert "weights being loaded" not in estimate(**OCR).ram_terms


def test_a_vision_language_model_is_the_sum_of_its_parts():
    model = bundled_models().find("deepseek-ai/DeepSeek-OCR")
    assert len(model.parts) == 2
    assert model.params == pytest.approx(3.34e9, rel=0.01)
    computed = model.layers * model.block_params + 2 * model.embedding_params + sum(p.params for p in model.parts)
    assert computed == pytest.approx(model.params, rel=0.05)


@pytest.mark.parametrize(
    ("file_mb", "target", "verdict"),
    [
        (1003, "railway-free", "no"),
        (1003, "railway-hobby", "no"),  # document 003 says it would do: 1 GB of weights leave nothing for torch
        (1003, "railway-pro", "fits"),
    ],
)
def test_the_size_limits_of_document_003(file_mb, target, verdict):
    found = estimate(
        hf="facebook/convnext-base-224", task="infer", precision="fp32", file_size=f"{file_mb} MB", on_gpu=False
    )
    assert target_fit(found, bundled_targets()[target]).verdict == verdict


def test_document_003_prefers_the_artefact_of_a_quarter_the_size():
    model = {"hf": "facebook/convnext-base-224", "task": "infer", "on_gpu": False}
    whole = estimate(**model, precision="fp32", file_size="1003 MB")
    quantised = estimate(**model, quantization="int8", file_size="250 MB")
    place = bundled_targets()["railway-free"]
    assert target_fit(whole, place).p_oom > 0.99
    assert target_fit(quantised, place).verdict != "no"


def test_workers_and_dataset_as_in_document_002():
    """2 GB for 200,000 examples of 512 tokens, 300 MB for 30,000; 0.4 to 0.5 GB for two workers."""
    found = estimate(hf="gpt2", seq_len=512, dataset_examples=200_000, workers=2)
    assert found.ram_terms["dataset"] == pytest.approx(2 * GB, rel=0.05)
    assert found.ram_terms["data loader workers"] == pytest.approx(0.4 * GB, rel=0.2)
    few = estimate(hf="gpt2", seq_len=512, dataset_examples=30_000)
    assert few.ram_terms["dataset"] == pytest.approx(0.3 * GB, rel=0.05)


def test_offloading_moves_states_to_host_ram():
    model = {"hf": "microsoft/phi-1_5", "precision": "fp16", "zero_stage": 2, "gpus": 2}
    plain, offloaded = estimate(**model), estimate(**model, offload="optimizer")
    assert offloaded.vram_bytes < plain.vram_bytes
    assert offloaded.ram_terms["offloaded states"] == pytest.approx(1.418e9 * 16 * 1.5, rel=0.01)


@pytest.mark.parametrize(
    ("name", "quantization", "gigabytes"),
    [
        ("meta-llama/Llama-3.1-8B", "gguf-q4_k_m", {2048: 5.2, 4096: 5.6, 8192: 6.4}),
        ("Qwen/Qwen3-14B", "gguf-q4_k_m", {2048: 9.6}),
        ("openai/gpt-oss-20b", "gguf-mxfp4", {2048: 13.6}),
    ],
)
def test_ollama_models_of_document_004(name, quantization, gigabytes):
    """Weights, cache and graph; its rule is 8, 16 and 24 GB of memory."""
    limit = {"meta-llama/Llama-3.1-8B": 8, "Qwen/Qwen3-14B": 16, "openai/gpt-oss-20b": 24}[name]
    for context, expected in gigabytes.items():
        found = estimate(hf=name, task="infer", quantization=quantization, seq_len=context)
        assert found.allocated_bytes / GB == pytest.approx(expected, rel=0.06)
        assert found.vram_bytes < limit * GB


@pytest.mark.parametrize(("context", "gigabytes"), [(4096, 0.54), (32768, 4.3), (131072, 17.2)])
def test_the_kv_cache_of_llama_31(context, gigabytes):
    found = estimate(hf="meta-llama/Llama-3.1-8B", task="infer", kv_cache_tokens=context)
    assert found.vram_terms["KV cache"] == 131_072 * context
    assert found.vram_terms["KV cache"] / GB == pytest.approx(gigabytes, rel=0.01)


def test_bitsandbytes_on_transformers_5_is_bounded_by_its_load():
    model = {"hf": "Qwen/Qwen2.5-14B", "method": "qlora", "gradient_checkpointing": True}
    assert estimate(**model, transformers=5).phase == "load"
    assert estimate(**model, transformers=5).allocated_bytes == 2 * 14_770_033_664
    assert estimate(**model, transformers=4).phase != "load"


def test_every_bundled_model_has_as_many_parameters_as_its_shape_says():
    models = bundled_models()
    assert len(models) >= 40
    for name in models.names():
        model = models.find(name)
        computed = replace(model, params=0).counted().params
        assert computed == pytest.approx(model.params, rel=0.12 if model.is_vision or model.parts else 0.03), name


def write_safetensors(path, tensors):
    header = json.dumps({name: {"dtype": d, "shape": s, "data_offsets": [0, 0]} for name, (d, s) in tensors.items()})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())


def test_a_safetensors_header_has_exact_counts_by_dtype(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": ("BF16", [10, 20]), "b": ("BF16", [5]), "c": ("F32", [])})
    assert safetensors_counts(path) == {"BF16": 205, "F32": 1}


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, struct.pack("<Q", 4) + b"{a}}"])
def test_what_is_no_safetensors_file_is_told(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"safetensors"):
        safetensors_counts(tmp_path / "x")


LLAMA = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
    "tie_word_embeddings": True,
}  # fmt: skip


def test_a_config_gives_what_the_table_gives(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    read = from_config(read_config(tmp_path / "config.json"))
    assert read.params == pytest.approx(1_235_814_400, rel=0.001)
    found = estimate_memory(subject(config="config.json", files=Files(config=LLAMA), batch_size=4, seq_len=1024))
    assert found.allocated_bytes == pytest.approx(20.909 * GB, rel=0.002)
    assert found.confidence == "high"


def test_exact_counts_replace_computed_ones():
    counted = subject(config="c", files=Files(config=LLAMA, counts={"BF16": 1_235_814_400}))
    assert counted.recipe.arch.params == 1_235_814_400


def test_a_bare_count_gives_low_confidence_and_never_silence():
    found = estimate(params="1.4B", batch_size=8)
    assert found.confidence == "low"
    assert "only the number of parameters" in found.notes[0]
    assert found.vram_bytes > estimate(hf="microsoft/phi-1_5", batch_size=8).vram_bytes


def test_an_unknown_name_says_what_to_add():
    with pytest.raises(UnknownModelError, match=r"add config: path/to/config.json, arch: .*or params: 1.4B"):
        estimate(hf="somebody/secret-model")


def test_a_probe_is_a_straight_line():
    probe = {"small_batch": 1, "small_peak": "3 GB", "large_batch": 2, "large_peak": "4 GB"}
    found = estimate(probe=probe, batch_size=10)
    assert found.allocated_bytes == 12 * GB
    assert found.vram_terms["fixed"] == 2 * GB


@pytest.mark.parametrize(("batch", "mib"), [(32, 5262), (64, 8536), (128, 15120)])
def test_resnet_50_on_a_device(batch, mib):
    found = estimate(hf="microsoft/resnet-50", precision="fp32", batch_size=batch, optimizer="adamw-fused")
    assert found.vram_bytes / 2**20 == pytest.approx(mib, rel=0.08)


def test_a_model_section_can_be_overridden_key_by_key():
    base = NeuralModel(hf="gpt2", precision="fp32", batch_size=8)
    assert base.overlaid(NeuralModel(batch_size=2)).batch_size == 2
    assert base.overlaid(NeuralModel(method="qlora")).quantization == "nf4"
    assert base.overlaid(NeuralModel(params="1B")).hf is None
