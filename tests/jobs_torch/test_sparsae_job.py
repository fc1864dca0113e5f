"""jobs/sparsae as a whole: its own code on generated text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jobs_kit
import pytest
import torch
from modules_kit import job_modules

wikitext, stream = job_modules("sparsae", "wikitext", "stream")

SMALL = ["--rehearse", "true", "--model_size", "nano", "--max_length", "32", "--batch_size", "8", "--lr", "3e-3",
         "--max_train_examples", "400", "--max_val_examples", "40"]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job writes beside where it is started."""
    monkeypatch.chdir(tmp_path)


def run(*more: str, out: str = "results") -> dict[str, Any]:
    wikitext.main([*SMALL, *more, "--out", out])
    return json.loads(Path(out, "metrics.json").read_text())


def test_the_command_of_the_spec_with_its_smoke_settings(tmp_path):
    done = jobs_kit.run_smoke("sparsae", tmp_path, num_workers=1)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert json.loads((tmp_path / jobs_kit.TOLD).read_text()) == {"step_seconds": metrics["seconds_per_step"]}
    first, second = (epoch["train"] for epoch in metrics["history"])
    assert second["cross_entropy"] < 0.7 * first["cross_entropy"]
    assert second["unexplained"] < first["unexplained"] < 1
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["cross_entropy"]))
    assert metrics["perplexity"] < 10  # of 27 words; five objects alone are worth more than one
    assert 0 < metrics["l0"] <= 8  # of 512 latents
    assert (metrics["examples"], first["steps"]) == (40, 50)
    assert metrics["parameters"] == sum(each.numel() for each in model_of(tmp_path).values())


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "results" / "model.pt")


def test_a_resumed_run_equals_an_uninterrupted_one():
    whole = run("--epochs", "2", "--checkpoints", "whole", out="one/results")
    run("--epochs", "1", "--checkpoints", "parts", out="two/results")
    resumed = run("--epochs", "2", "--checkpoints", "parts", out="two/results")
    assert [each["train"] for each in resumed["history"]] == [each["train"] for each in whole["history"]]
    one, two = (model_of(Path(name)) for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_checkpoint_of_another_variant_is_left_alone(capsys):
    few = ["--epochs", "1", "--max_train_examples", "8"]
    run(*few)
    assert len(run(*few, "--batch_size", "4")["history"]) == 1
    assert "of other settings: starting from the beginning" in capsys.readouterr().out


def test_mixed_precision_learns_as_well():
    metrics = run("--epochs", "2", "--precision", "amp-bf16")
    assert metrics["history"][1]["train"]["cross_entropy"] < 0.7 * metrics["history"][0]["train"]["cross_entropy"]


def test_too_little_text_is_said(tmp_path):
    with pytest.raises(SystemExit, match="has less text than one example of 100000 tokens"):
        run("--max_length", "100000")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("wrong", [["--batch_size", "0"], ["--model_size", "huge"], ["--num_workers", "-1"]])
def test_wrong_arguments_are_refused(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(*wrong)
    assert wrong[0] in capsys.readouterr().err
