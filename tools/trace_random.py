"""Regenerate tests/data/traced_at_random.csv: peaks of catalogued models in settings that nobody chose.

.venv-exact/bin/python tools/trace_random.py tests/data/traced_at_random.csv [SEED]

At most two models of each family, drawn with their precision, adapters, checkpointing, batch and length. Nothing is
fitted to them. Adapters under autocast are left out: the traced model keeps its frozen weights in fp32; nobody does.
"""

from __future__ import annotations

import csv
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers
from trace_checks import Mode, Shape, peak
from trace_families import DECODERS, ENCODERS

MODELS = Path(__file__).parents[1] / "orchestrator" / "catalog" / "models.csv"
MOST_PARAMS, OF_A_FAMILY = 8e9, 2
EAGER = {"gemma2", "bloom", "deberta-v2", "gptj"}
"""Without another attention."""
SIZES = ("hidden", "ffn", "heads", "head_dim", "kv_heads", "vocab")


def cases(seed: int) -> Iterator[tuple[dict[str, str], Shape, Mode]]:
    """Models of the table, and what is done with each."""
    dice = random.Random(seed)  # noqa: S311  no secret hangs on it
    with MODELS.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model_type"] in (*DECODERS, *ENCODERS)]
    rows = [row for row in rows if float(row["params"]) < MOST_PARAMS and not row["experts"] and not row["parts"]]
    dice.shuffle(rows)
    seen: Counter[str] = Counter()
    for row in rows:
        family = row["model_type"]
        seen[family] += 1
        if seen[family] <= OF_A_FAMILY:
            yield row, *settings(dice, row)


def settings(dice: random.Random, row: dict[str, str]) -> tuple[Shape, Mode]:
    """A batch and a mode that the family can run in."""
    family = row["model_type"]
    precision = dice.choice(["bf16", "bf16", "amp", "fp32"])
    attention = "eager" if family in EAGER else "sdpa"
    plain = precision != "bf16" or attention == "eager" or family in ENCODERS
    lora = "none" if plain else dice.choice(["none", "qv", "all"])
    length = dice.choice([128, 256, 512] if family in ENCODERS else [128, 256, 512, 1024, 2048])
    shape = Shape(dice.choice([1, 2, 4, 8]), length, *(int(row[name]) for name in SIZES))
    return shape, Mode(precision, attention, lora=lora, checkpointing=dice.random() < 0.5)


def main(path: Path, seed: int) -> None:
    """Trace and write."""
    found: list[dict[str, Any]] = []
    for row, shape, mode in cases(seed):
        peaked = peak(row["model_type"], int(row["layers"]), shape, mode, row["tied"] == "1")
        found.append({
            "hf": row["hf"], "precision": mode.precision, "attention": mode.attention, "lora": mode.lora,
            "checkpointing": int(mode.checkpointing), "batch": shape.b, "seq": shape.s, "peak_bytes": peaked,
            "source": f"tools/trace_random.py, seed {seed}, transformers {transformers.__version__}",
        })  # fmt: skip
        print(found[-1], flush=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
