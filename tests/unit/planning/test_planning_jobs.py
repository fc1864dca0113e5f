"""The jobs in jobs/ that came from source documents, as the planner sees them: their own specs and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planning_kit import GB, gpu_machine, machine, plan, rungs

from backends.base import Offer
from orchestrator.lifecycle.memory_needs import predicted_facts, subject
from orchestrator.planning.memory.estimate import MemoryEstimate, estimate_memory
from orchestrator.planning.memory.levers import changed
from orchestrator.planning.plan import Code, Plan, Priority
from orchestrator.spec.load import load_spec

JOBS = Path(__file__).parents[3] / "jobs"
OCR = load_spec(JOBS / "deepseek_ocr" / "ocr_eval.yaml")
QUANTIZE = load_spec(JOBS / "convnext_quantize" / "quantize.yaml")
PHI = load_spec(JOBS / "phi15" / "train.yaml")
SPARSAE = load_spec(JOBS / "sparsae" / "wikitext.yaml")

LAPTOP = gpu_machine("laptop", "NVIDIA GeForce RTX 4090 Laptop GPU", "local", ram=32, vram=16.9, capability=8.9)
TOWER = gpu_machine("tower", "NVIDIA GeForce RTX 4090 Laptop GPU", "local", ram=64, vram=16.9, capability=8.9)
T4 = gpu_machine("t4", "T4", ram=12.7, vram=15.6)
V100 = gpu_machine("v100", "V100 16GB", ram=25, vram=16.9, capability=7.0)
A100 = gpu_machine("a100", "A100 40GB", usd="1.10", ram=80, vram=42, capability=8.0)


def estimated(spec: Any, variant: str, folder: Path, **changes: Any) -> MemoryEstimate:
    """The estimate of a variant, without a network; ``changes`` are laid over its model section."""
    found = subject(spec, variant, folder, ask_hub=False, assume_gpu=True)
    assert found is not None
    return estimate_memory(changed(found, **changes))


def planned(spec: Any, folder: Path, *offers: Offer, **options: Any) -> Plan:
    return plan(spec, *offers, facts=predicted_facts(spec, folder), **options)


def refused(made: Plan, code: Code) -> set[str]:
    return {each.variant for each in made.rejected if each.code is code}


class TestDeepseekOcr:
    """Document 000: killed on Colab's free T4 for its RAM; Colab Pro (28 GB) and RunPod (64 GB) are the ways out."""

    FREE = gpu_machine("free", "T4", ram=10.7, vram=15.6)
    """12.7 GB, of which 2 are taken when a runtime starts."""

    def test_what_died_is_refused_for_its_ram_with_both_numbers(self, tmp_path):
        made = planned(OCR, tmp_path, self.FREE, budget="0")
        (why,) = (each for each in made.rejected if each.variant == "as-published")
        assert why.code is Code.RAM
        assert why.reason.startswith("RAM predicted: 14.3 GB")
        assert "has 10.7 GB" in why.reason
        assert "13.3 GB of fp32 are made in host RAM, which ended with exit -9 in 12.7 GB" in why.reason

    def test_strategy_3_fits_there_in_time(self, tmp_path):
        """The document's low-memory load (3b) and 4 bits (3a), which it gave a chance of 30 %."""
        made = planned(OCR, tmp_path, self.FREE, budget="0")
        assert rungs(made) == [("fp16", "free"), ("nf4", "free")]
        assert made.p_success > 0.95
        assert all("limits.runtime" not in reason for rung in made.ladder for reason in rung.reasons)

    @pytest.mark.parametrize(
        "offer",
        [
            gpu_machine("pro", "A100 40GB", ram=28, vram=42, capability=8.0),
            gpu_machine("4090", "RTX 4090", ram=64, vram=25.2, capability=8.9),
        ],
        ids=["Colab Pro", "RunPod"],
    )
    def test_both_ways_out_take_it_even_as_published(self, tmp_path, offer):
        made = planned(OCR, tmp_path, offer)
        assert rungs(made)[0] == ("bf16", offer.name)
        assert "as-published" in {variant for variant, _ in rungs(made)}


class TestPhi15:
    """Document 001 adds up 2.6 + 2.6 + 10.4 + 3..4 = 19 to 20 GB, and finds that 16 GB are too few."""

    @pytest.mark.parametrize(
        ("variant", "allocated"),
        [
            ("full", 22.9),
            ("accumulate", 25.9),
            ("offload", 4.1),
            ("adamw-8bit", 8.9),
            ("lora", 4.1),
            ("bert-tiny", 0.1),
        ],
    )
    def test_the_true_peak_of_each_recipe(self, tmp_path, variant, allocated):
        assert estimated(PHI, variant, tmp_path).allocated_bytes / GB == pytest.approx(allocated, abs=0.06)

    def test_the_terms_of_the_document_beside_the_true_ones(self, tmp_path):
        terms = estimated(PHI, "full", tmp_path).vram_terms
        parameters = 1_418_270_720  # not 1.3 billion
        assert terms["weights"] == 4 * parameters  # the document: 2 bytes each
        assert terms["optimizer states"] == 8 * parameters
        assert terms["gradients"] > 2 * 2.5 * GB  # the document: 2.6 GB

    def test_the_note_of_the_first_variant_has_both_sums(self, tmp_path):
        note = PHI.variants[0].note or ""
        assert "19 to 20 GB" in note
        assert f"{estimated(PHI, 'full', tmp_path).allocated_bytes / GB:.1f} GB" in note

    def test_16_gb_are_refused_and_what_fits_is_found(self, tmp_path):
        made = planned(PHI, tmp_path, LAPTOP, budget="0")
        assert refused(made, Code.VRAM) == {"full", "accumulate"}
        reason = next(each.reason for each in made.rejected if each.variant == "full")
        assert reason.startswith("VRAM predicted: 23.7 GB")
        assert "has 16.9 GB: 99.6% chance to run out; note: all weights, mixed precision" in reason
        assert "By hand: 2.6 GB weights + 2.6 gradients + 10.4 AdamW + 3 to 4 activations = 19 to 20 GB" in reason
        assert rungs(made)[0] == ("lora", "laptop")
        assert made.ladder[0].reasons[-1].startswith("note: adapters of rank 16")
        assert made.p_success > 0.95

    def test_who_minds_money_and_quality_more_than_time_gets_8_bit_optimizer(self, tmp_path):
        made = planned(PHI, tmp_path, LAPTOP, budget="0", priority=Priority.COST)
        assert rungs(made)[0] == ("adamw-8bit", "laptop")

    def test_with_ram_enough_the_optimizer_moves_there(self, tmp_path):
        """35 GB are asked for: 32 are too few, 64 are not."""
        made = planned(PHI, tmp_path, TOWER, budget="0", priority=Priority.COST)
        assert rungs(made)[0] == ("offload", "tower")
        assert estimated(PHI, "offload", tmp_path).ram_bytes / GB == pytest.approx(37.8, abs=0.1)

    def test_the_recipe_of_the_document_goes_to_a_larger_gpu(self, tmp_path):
        made = planned(PHI, tmp_path, LAPTOP, A100, budget="20", priority=Priority.RELIABILITY)
        assert ("full", "a100") in rungs(made)

    def test_a_gpu_without_bf16_gets_no_variant_that_computes_in_it(self, tmp_path):
        made = planned(PHI, tmp_path, T4, budget="0")
        assert refused(made, Code.GPU) == {"offload", "adamw-8bit"}
        assert rungs(made)[0][0] == "lora"

    def test_smoke_settings_reach_every_variant(self):
        for variant in PHI.variants:
            assert "--rehearse true" in PHI.resolved(variant.name, PHI.smoke).run


class TestSparsae:
    """Document 002: settings by the GPU's memory, and the table of what each of them takes."""

    @pytest.mark.parametrize(
        ("size", "batch", "least", "most", "t4"),
        [
            ("tiny", 4, 2, 3, "fits"),
            ("tiny", 8, 4, 5, "fits"),
            ("small", 4, 4, 5, "fits"),
            ("small", 6, 6, 7, "fits"),
            ("small", 10, 10, 10, "fits"),  # "may OOM": by the document's own number it does not
            ("medium", 8, 11, 13, "risky"),  # "OOM on T4"
            ("medium", 16, 20, 22, "no"),
        ],
    )
    def test_the_table(self, tmp_path, size, batch, least, most, t4):
        found = estimated(SPARSAE, size, tmp_path, batch_size=batch)
        assert 0.85 * least <= found.vram_bytes / GB <= 1.1 * most
        need = found.vram_need()
        assert need is not None
        chance = need.p_oom(T4.vram_bytes)
        assert ("fits" if chance < 0.05 else "risky" if chance <= 0.5 else "no") == t4
        assert need.p_oom(A100.vram_bytes) < 0.05

    @pytest.mark.parametrize(
        ("offer", "variant", "settings"),
        [
            (A100, "medium", "--model_size medium --batch_size 16 --max_train_examples 100000"),
            (V100, "small", "--model_size small --batch_size 6 --max_train_examples 50000"),
            (T4, "small", "--model_size small --batch_size 6 --max_train_examples 50000"),
            (gpu_machine("k", vram=8), "tiny", "--model_size tiny --batch_size 4 --max_train_examples 30000"),
        ],
        ids=["a100", "v100", "t4", "8 GB"],
    )
    def test_auto_scaling(self, tmp_path, offer, variant, settings):
        """if vram >= 35: medium, batch 16, 100K; elif vram >= 14: small, batch 6, 50K; else tiny, batch 4, 30K."""
        made = planned(SPARSAE, tmp_path, offer)
        assert rungs(made)[0] == (variant, offer.name)
        assert settings in SPARSAE.resolved(variant).run

    @pytest.mark.parametrize(("vram", "excluded"), [(34.9, {"medium"}), (35, set()), (13.9, {"medium", "small"})])
    def test_the_bounds_are_those_of_the_document(self, tmp_path, vram, excluded):
        made = planned(SPARSAE, tmp_path, gpu_machine("g", vram=vram))
        assert refused(made, Code.WHEN) == excluded

    @pytest.mark.parametrize(("examples", "size"), [(200_000, 2.0), (30_000, 0.3)])
    def test_streaming_takes_no_ram_for_the_examples(self, tmp_path, examples, size):
        """Held, as the document held them, they are 2 GB before and 0.3 GB after; streamed they are nothing."""
        found = estimated(SPARSAE, "medium", tmp_path)
        assert found.notes == ()
        assert "dataset" not in found.ram_terms
        held = estimated(SPARSAE, "medium", tmp_path, dataset_examples=examples).ram_bytes - found.ram_bytes
        assert held == pytest.approx(size * GB, rel=0.05)

    def test_the_default_is_the_conservative_one(self):
        run = SPARSAE.resolved("tiny").run
        assert "--batch_size 4 --max_train_examples 30000" in run
        assert "--max_val_examples 3000 --num_workers 0" in run


class TestConvnextQuantize:
    """Document 003: a job for the CPU, and the cheapest rung is your own machine."""

    def test_it_stays_at_home_where_home_is_large_enough(self, tmp_path):
        rented = machine("big", usd="0.10", ram=64)
        for home, first in ((machine("cpu", "local", ram=8), "cpu"), (machine("cpu", "local", ram=2), "big")):
            made = planned(QUANTIZE, tmp_path, rented, home, priority=Priority.COST)
            assert rungs(made)[0] == ("both", first)
