"""jobs/phi15 as a whole: its own code on a tiny Phi with random weights, loaded as the real one is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jobs_kit
import pytest
import torch
from modules_kit import job_modules

train, classifier, rehearsal, texts = job_modules("phi15", "train", "classifier", "rehearsal", "texts")

SMALL = ["--data", "x", "--rehearse", "true", "--max-length", "32"]
RECIPES = {
    "accumulate": ["--batch-size", "2", "--accumulate", "4", "--lr", "1e-3"],
    "offload": ["--precision", "bf16", "--optimizer", "adamw-offload", "--lr", "1e-3"],
    "adamw-8bit": ["--precision", "bf16", "--optimizer", "adamw-8bit", "--lr", "1e-3"],
    "lora": ["--method", "lora", "--lr", "1e-2"],
    "bert-tiny": ["--model", "prajjwal1/bert-tiny", "--lr", "3e-3"],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job writes beside where it is started."""
    monkeypatch.chdir(tmp_path)


def run(*more: str, out: str = "results") -> dict[str, Any]:
    train.main(["--model", "microsoft/phi-1_5", *SMALL, *more, "--out", out])
    return json.loads(Path(out, "metrics.json").read_text())


def losses(metrics: dict[str, Any]) -> list[float]:
    return [epoch["train"]["loss"] for epoch in metrics["history"]]


def test_the_command_of_the_spec_with_its_smoke_settings(tmp_path):
    done = jobs_kit.run_smoke("phi15", tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert json.loads((tmp_path / jobs_kit.TOLD).read_text()) == {"step_seconds": metrics["seconds_per_step"]}
    assert losses(metrics)[1] < 0.8 * losses(metrics)[0]
    assert metrics["accuracy"] > 0.6  # of four classes
    assert metrics["examples"] == {"train": 96, "validation": 48}
    assert set(metrics) >= {"ece", "brier", "least_between", "spread", "seconds_per_epoch", "peak_rss_bytes"}
    assert set(torch.load(tmp_path / "results" / "classifier.pt")) >= {"head.weight", "head.bias"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_learns(recipe):
    metrics = run("--epochs", "2", *RECIPES[recipe])
    assert losses(metrics)[1] < 0.85 * losses(metrics)[0]
    assert metrics["accuracy"] > 0.6
    few = metrics["trained_parameters"] < metrics["parameters"]
    assert few is (recipe == "lora")


@pytest.mark.parametrize("name", ["full", "offload", "adamw-8bit", "lora"])
def test_a_resumed_run_equals_an_uninterrupted_one(name, tmp_path):
    recipe = ["--max-train-examples", "48", *RECIPES.get(name, ["--lr", "1e-3"])]
    whole = run("--epochs", "3", *recipe, "--checkpoints", "whole", out="whole-results")
    run("--epochs", "2", *recipe, "--checkpoints", "parts", out="parts-results")
    resumed = run("--epochs", "3", *recipe, "--checkpoints", "parts", out="parts-results")
    assert losses(resumed) == losses(whole)
    assert resumed["ece"] == whole["ece"]
    weights = [torch.load(tmp_path / name / "classifier.pt") for name in ("whole-results", "parts-results")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_checkpoint_comes_every_second_epoch(tmp_path, monkeypatch):
    written: list[int] = []
    real = train.save
    monkeypatch.setattr(train, "save", lambda run, path: (written.append(run.epoch), real(run, path)))
    run("--epochs", "3", "--lr", "1e-3", "--max-train-examples", "8")
    assert written == [2, 3]
    assert [each.name for each in (tmp_path / "checkpoints").iterdir()] == ["last.pt"]


def test_a_checkpoint_of_another_variant_is_left_alone(capsys):
    run("--epochs", "1", "--max-train-examples", "8")
    metrics = run("--epochs", "1", "--max-train-examples", "8", *RECIPES["lora"])
    assert "of other settings: starting from the beginning" in capsys.readouterr().out
    assert len(metrics["history"]) == 1


def test_a_tokenizer_without_pad_token_gets_one_and_padding_changes_nothing():
    folder, _ = rehearsal.rehearse("microsoft/phi-1_5")
    tokenizer = classifier.load_tokenizer(folder)
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"
    model = classifier.load_classifier(folder, 4, classifier.PRECISIONS["fp32"], lora=False).eval()
    collate = texts.collator(tokenizer, 32)
    short = {"text": "bread oven flour", "label": 1}
    alone, _ = collate([short])
    padded, labels = collate([short, {"text": "ship harbour sail anchor ship sail the of and", "label": 0}])
    assert labels.tolist() == [1, 0]
    assert padded["attention_mask"].sum(1).tolist() == [3, 9]
    with torch.no_grad():
        assert torch.allclose(model(alone)[0], model(padded)[0], atol=1e-5)


def test_blocks_are_recomputed_and_half_precision_is_scaled():
    folder, _ = rehearsal.rehearse("microsoft/phi-1_5")
    model = classifier.load_classifier(folder, 4, classifier.PRECISIONS["amp-fp16"], lora=False)
    assert model.backbone.is_activation_checkpointing
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    assert classifier.PRECISIONS["amp-fp16"].scales
    assert not classifier.PRECISIONS["bf16"].scales


def test_frozen_weights_are_kept_in_16_bit_and_adapters_in_32():
    folder, _ = rehearsal.rehearse("microsoft/phi-1_5")
    model = classifier.load_classifier(folder, 4, classifier.PRECISIONS["amp-fp16"], lora=True)
    kinds = {(each.requires_grad, each.dtype) for each in model.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.float16)}


def test_data_without_the_columns_are_refused(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("sentence,label\nyes,1\n")
    with pytest.raises(SystemExit, match="has no column text; rename"):
        texts.load_texts(str(tmp_path), 10, 10, 0)


@pytest.mark.parametrize("wrong", [["--batch-size", "0"], ["--precision", "int3"], ["--optimizer", "sgd"]])
def test_wrong_arguments_are_refused(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(*wrong)
    assert wrong[0] in capsys.readouterr().err
