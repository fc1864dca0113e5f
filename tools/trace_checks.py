"""Regenerate tests/data/traced_families.csv: peaks of whole models of shapes that families.csv was not fitted to.

.venv-exact/bin/python tools/trace_checks.py tests/data/traced_families.csv
"""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from trace_families import Shape, config_of, inputs_of

from backends.runner.tracing.model import Mode, build, class_of
from backends.runner.tracing.tracker import Tracker

CASES: tuple[tuple[str, int, Shape, Mode, bool], ...] = (
    ("gpt_neox", 24, Shape(4, 1024, 2048, 8192, 16, 128, 16, 50304), Mode("bf16"), False),
    ("qwen2", 24, Shape(4, 512, 896, 4864, 14, 64, 2, 151936), Mode("amp"), True),
    ("qwen2", 24, Shape(2, 2048, 896, 4864, 14, 64, 2, 151936), Mode("bf16", checkpointing=True), True),
    ("gemma", 18, Shape(1, 512, 2048, 16384, 8, 256, 1, 256000), Mode("bf16"), True),
    ("opt", 24, Shape(8, 256, 2048, 8192, 32, 64, 32, 50272), Mode("amp", checkpointing=True), True),
    ("falcon", 8, Shape(2, 512, 4544, 18176, 71, 64, 1, 65024), Mode("bf16"), True),
    ("llama", 16, Shape(4, 1024, 2048, 8192, 32, 64, 8, 128256), Mode("bf16", lora="all"), True),
    ("llama", 32, Shape(1, 2048, 4096, 11008, 32, 128, 32, 32000), Mode("bf16", lora="qv", checkpointing=True), False),
    ("phi3", 32, Shape(1, 2048, 3072, 8192, 32, 96, 32, 32064), Mode("bf16", checkpointing=True), False),
    ("roberta", 12, Shape(16, 128, 768, 3072, 12, 64, 12, 50265), Mode("amp"), True),
    ("stablelm", 24, Shape(2, 1024, 2048, 5632, 32, 64, 32, 100352), Mode("fp32"), False),
    ("qwen3", 28, Shape(2, 1024, 1024, 3072, 16, 128, 8, 151936), Mode("amp", checkpointing=True), True),
    ("vit", 12, Shape(64, 197, 768, 3072, 12, 64, 12, 1000), Mode("amp"), False),
    ("llama", 16, Shape(1, 8192, 2048, 8192, 32, 64, 8, 32000), Mode("bf16", "eager"), False),
    ("bert", 24, Shape(8, 512, 1024, 4096, 16, 64, 16, 30522), Mode("fp32"), True),
    ("olmo2", 8, Shape(2, 1024, 4096, 11008, 32, 128, 32, 100352), Mode("bf16", checkpointing=True), False),
    ("llama", 30, Shape(2, 64, 576, 1536, 9, 64, 3, 49152), Mode("amp"), True),
    ("starcoder2", 12, Shape(2, 1024, 3072, 12288, 24, 128, 2, 49152), Mode("bf16"), True),
    ("gemma3_text", 26, Shape(2, 512, 1152, 6912, 4, 256, 1, 262144), Mode("bf16"), True),
    ("mistral", 16, Shape(4, 2048, 4096, 14336, 32, 128, 8, 32768), Mode("bf16", checkpointing=True), False),
    ("distilbert", 6, Shape(32, 256, 768, 3072, 12, 64, 12, 30522), Mode("fp32"), True),
    ("gpt2", 12, Shape(4, 1024, 768, 3072, 12, 64, 12, 50257), Mode("bf16", "eager"), True),
)


def peak(family: str, layers: int, shape: Shape, mode: Mode, tied: bool) -> int:
    """Bytes at the peak of a forward and backward pass, weights included."""
    config = config_of(family, shape, layers)
    if family != "vit":
        config.tie_word_embeddings = tied
    with FakeTensorMode(), Tracker() as tracker:
        model, batch = build(class_of(family), config, mode), inputs_of(family, shape)()
        tracker.since()
        with mode.autocast():
            loss = model(**batch).loss
        loss.backward()
        return tracker.since()


def main(path: Path) -> None:
    """Trace every case."""
    rows: list[dict[str, Any]] = []
    source = f"tools/trace_checks.py, torch {torch.__version__}, transformers {transformers.__version__}"
    for family, layers, shape, mode, tied in CASES:
        found = peak(family, layers, shape, mode, tied)
        rows.append({"model_type": family, "layers": layers, **asdict(shape), **asdict(mode), "tied": int(tied),
                     "peak_bytes": found, "source": source})  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
