"""What the tests of exact mode share: a trace from a few words."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

from orchestrator.lifecycle.memory_needs import tables
from orchestrator.planning.memory.estimate import Subject
from orchestrator.planning.memory.exact import Traced, trace_request
from orchestrator.planning.memory.subject import Files, subject_of
from orchestrator.spec.neural import NeuralModel

DATA = Path(__file__).parents[1] / "data"
MODELS = {
    "phi1.5": "microsoft/phi-1_5",
    "llama2-7b": "meta-llama/Llama-2-7b-hf",
    "gpt2nd": "gpt2",
    "llama1b": "meta-llama/Llama-3.2-1B",
    "llama3b": "meta-llama/Llama-3.2-3B",
    "bertbase": "google-bert/bert-base-uncased",
    "berttiny": "prajjwal1/bert-tiny",
}
PRECISIONS = {"fp32": "fp32", "amp16": "amp-fp16", "ampbf16": "amp-bf16", "bf16": "bf16"}


def subject(config: dict[str, Any] | None = None, /, **model: Any) -> Subject:
    return subject_of(NeuralModel(**model), Files(config), tables())


def traced(config: dict[str, Any] | None = None, /, **model: Any) -> Traced:
    """The trace of a model section, in this process, so that torch is loaded once."""
    from backends.runner.tracing.steps import traced as trace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers and torch say of each other is not ours
        return Traced(**trace(trace_request(subject(config, **model), config)))


def golden_rows() -> list[dict[str, str]]:
    """Peaks that another tracer found, of the document on predicting memory."""
    with (DATA / "traced_peaks.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def as_model(row: dict[str, str]) -> dict[str, Any]:
    return {
        "hf": MODELS[row["model"]],
        "precision": PRECISIONS[row["precision"]],
        "gradient_checkpointing": row["gradient_checkpointing"] == "1",
        "batch_size": int(row["batch"]),
        "seq_len": int(row["seq"]),
        "attention": row["attention"],
        "optimizer": "adamw" if row["adamw"] == "foreach" else "adamw-fused",
        "dropout": False,
    }
