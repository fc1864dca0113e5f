"""Regenerate orchestrator/catalog/families.csv: what a transformer block and the head of each family hold and use.

    make exact      (a virtual environment with torch for CPUs and transformers)
    .venv-exact/bin/python tools/trace_families.py orchestrator/catalog/families.csv [MODEL_TYPE ...]

Each row says how many bytes one quantity has, as coefficients of sizes of the model and the batch. They are fitted to
traces of realistic shapes; `error` is the largest deviation on a shape that was not fitted.
"""

from __future__ import annotations

import csv
import sys
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tracing import Trace, trace_forward, trace_step

from backends.runner.tracing import shapes
from backends.runner.tracing.model import VISION, Mode, class_of
from backends.runner.tracing.shapes import FOUR_H, FREE_HEAD_DIM, MANY_KV


@dataclass(frozen=True, slots=True)
class Shape:
    """A batch and a model: batch, sequence, hidden, ffn, heads, head_dim, kv_heads, vocabulary."""

    b: int
    s: int
    h: int
    f: int
    a: int
    d: int
    k: int
    v: int


SHAPES = (
    Shape(4, 512, 1024, 4096, 16, 64, 4, 32000),
    Shape(2, 1024, 2048, 5632, 16, 128, 4, 50304),
    Shape(1, 2048, 2048, 8192, 32, 64, 8, 128256),
    Shape(8, 256, 768, 3072, 12, 64, 12, 30528),
    Shape(1, 512, 4096, 14336, 32, 128, 8, 151936),
    Shape(16, 128, 512, 2048, 8, 64, 2, 8192),
    Shape(3, 640, 1536, 8960, 12, 256, 2, 64000),
    Shape(4, 1024, 2560, 6912, 20, 64, 10, 100352),
    Shape(2, 768, 3072, 8192, 24, 128, 8, 32000),
)
"""The last one is for checking."""
LONG = (Shape(1, 4096, 1024, 4096, 16, 64, 4, 32000), Shape(1, 8192, 2048, 8192, 32, 64, 8, 32000))
"""For eager attention, whose matrices outweigh all else there."""

MODES = (
    Mode("bf16"),
    Mode("amp"),
    Mode("fp32"),
    Mode("bf16", lora="qv"),
    Mode("bf16", lora="all"),
    Mode("bf16", "eager"),
    Mode("amp", "eager"),
    Mode("amp", lora="qv"),
    Mode("amp", lora="all"),
    Mode("fp32", "eager"),
)
FEATURES = ("th", "tf", "tq", "tkv", "ta", "t", "bass", "w", "tv", "vh")
"""t: tokens; h f q kv a v: hidden, ffn, heads*head_dim, kv_heads*head_dim, heads, vocabulary; bass: batch*a*seq^2;
w: weights of the block's matrices."""
IN_BLOCK = ("th", "tf", "tq", "tkv", "ta", "t", "bass", "w")
MOVING = ("th", "tf", "tq", "tkv", "bass", "w")
OUTSIDE = ("th", "tv", "vh")
QUANTITIES = {
    "saved": IN_BLOCK,  # held by a block from its forward to its backward pass
    "work": MOVING,  # the peak of a block's backward pass above what lived at its beginning
    "infer": IN_BLOCK,  # the peak of a block's forward pass without gradients
    "loss": OUTSIDE,  # the peak outside the blocks until the gradient of the logits is there
    "head": OUTSIDE,  # the peak outside the blocks from then until the last block's backward pass
    "after": OUTSIDE,  # outside the blocks when the first block's backward pass begins
}

LAYERS = 3

DECODERS = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "phi",
    "gpt2",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "opt",
    "bloom",
    "falcon",
    "gpt_neox",
    "starcoder2",
    "stablelm",
    "olmo",
    "olmo2",
    "smollm3",
    "granite",
    "gpt_neo",
    "gptj",
    "cohere",
    "mpt",
    "codegen",
    "gpt_bigcode",
    "glm",
    "nemotron",
]
ENCODERS = ["bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta", "modernbert"]


def fitted_shape(family: str, shape: Shape) -> Shape:
    """``shape`` within what the family can be."""
    values = asdict(shape)
    if family not in FREE_HEAD_DIM:
        values["d"] = shape.h // shape.a
    if family in MANY_KV:
        values["k"] = shape.a
    if family == "gpt_bigcode":
        values["k"] = 1
    if family in FOUR_H:
        values["f"] = 4 * shape.h
    if family in VISION:
        values.update(v=1000, s=round((shape.s - 1) ** 0.5) ** 2 + 1)
    return Shape(**values)


def config_of(family: str, shape: Shape, layers: int = LAYERS) -> Any:
    """A configuration of the family with that shape and no dropout."""
    sizes = {
        "type": family, "layers": layers, "hidden": shape.h, "ffn": shape.f, "heads": shape.a, "kv_heads": shape.k,
        "head_dim": shape.d, "vocab": shape.v, "labels": shape.v, "image_size": _side(shape),
    }  # fmt: skip
    config = shapes.config_of(sizes, shape.s)
    config.use_cache = False
    shapes.without_dropout(config)
    return config


def _side(shape: Shape) -> int:
    """Pixels of the side of an image with so many patches of 16."""
    return 16 * round((shape.s - 1) ** 0.5)


def inputs_of(family: str, shape: Shape) -> Callable[[], dict[str, torch.Tensor]]:
    """What the model is called with."""
    if family in VISION:
        side = _side(shape)
        return lambda: {
            "pixel_values": torch.zeros(shape.b, 3, side, side),
            "labels": torch.zeros(shape.b, dtype=torch.long),
        }
    return lambda: {
        "input_ids": torch.zeros(shape.b, shape.s, dtype=torch.long),
        "labels": torch.zeros(shape.b, shape.s, dtype=torch.long),
    }


def features(shape: Shape, weights: int) -> dict[str, float]:
    """The sizes that the coefficients belong to."""
    t, q, kv = shape.b * shape.s, shape.a * shape.d, shape.k * shape.d
    return {
        "th": t * shape.h, "tf": t * shape.f, "tq": t * q, "tkv": t * kv, "ta": t * shape.a, "t": t,
        "bass": shape.b * shape.a * shape.s**2, "w": weights,
        "tv": (t if shape.v != 1000 else shape.b) * shape.v, "vh": shape.v * shape.h,
    }  # fmt: skip


def block_weights(model_type: str, shape: Shape) -> int:
    """Weights of the matrices of a block."""
    q, kv = shape.a * shape.d, shape.k * shape.d
    gated = model_type in GATED
    return shape.h * (2 * q + 2 * kv) + (3 if gated else 2) * shape.h * shape.f


GATED = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "stablelm", "olmo", "olmo2",
         "smollm3", "granite", "cohere", "glm", "modernbert"}  # fmt: skip


def quantities(training: Trace, inference: Trace | None) -> dict[str, float]:
    """What the traces say, in bytes."""
    middle, last = LAYERS - 2, LAYERS - 1
    saved = training.after_layer[last] - training.after_layer[middle]
    found = {
        "saved": saved,
        "work": training.backward_work[middle],
        "loss": max(training.loss_peak - training.before - LAYERS * saved, 0),
        "head": training.head_peak - training.before - LAYERS * saved,
        "after": training.backward_start[last] - training.before - LAYERS * saved,
    }
    if inference:
        found["infer"] = inference.forward_work[middle]
    return found


def measure(family: str, mode: Mode) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Features and quantities of every shape."""
    rows = []
    for each in (*LONG, *SHAPES) if mode.attention == "eager" else SHAPES:
        shape = fitted_shape(family, each)
        if family == "gpt_bigcode" and mode.attention == "eager":
            continue
        call = (class_of(family), config_of(family, shape), mode, inputs_of(family, shape))
        training = trace_step(*call)
        inference = trace_forward(*call) if mode.lora == "none" else None
        rows.append((features(shape, block_weights(family, shape)), quantities(training, inference)))
    return rows


def fit(rows: list[tuple[dict[str, float], float]], names: Iterable[str]) -> tuple[dict[str, float], float]:
    """Coefficients that are not negative, and the error on the last row, which is not fitted."""
    *learned, held = rows
    values = np.array([value for _, value in learned])
    chosen = _independent([each for each, _ in learned], list(names))
    weight = 1 / np.maximum(np.abs(values), 1.0)
    while chosen:
        matrix = np.array([[each[name] for name in chosen] for each, _ in learned])
        scale = matrix.max(axis=0)
        solution = np.linalg.lstsq(matrix / scale * weight[:, None], values * weight, rcond=1e-9)[0] / scale
        shares = solution * scale / max(values.max(), 1.0)
        if shares.min() >= -1e-6:
            break
        chosen.pop(int(shares.argmin()))
    found = dict(zip(chosen, solution, strict=True)) if chosen else {}
    found = _rounded(found, learned)
    predicted = sum(found[name] * held[0][name] for name in found)
    return found, abs(predicted - held[1]) / max(abs(held[1]), 1.0)


def _rounded(found: dict[str, float], rows: list[tuple[dict[str, float], float]]) -> dict[str, float]:
    """Halves where they explain the rows as well."""

    def error(coefficients: dict[str, float]) -> float:
        return max(abs(sum(c * each[n] for n, c in coefficients.items()) - v) / max(v, 1.0) for each, v in rows)

    halves = {name: round(value * 2) / 2 for name, value in found.items() if round(value * 2)}
    return halves if error(halves) < max(0.002, 1.2 * error(found)) else {n: round(v, 4) for n, v in found.items()}


def _independent(rows: list[dict[str, float]], names: list[str]) -> list[str]:
    kept: list[str] = []
    for name in names:
        columns = np.array([[row[each] for each in [*kept, name]] for row in rows])
        if np.linalg.matrix_rank(columns / columns.max(axis=0), tol=1e-6) == len(kept) + 1:
            kept.append(name)
    return kept


def rows_of(family: str, mode: Mode) -> list[dict[str, Any]]:
    """The rows of the table for one family and mode."""
    measured = measure(family, mode)
    rows = []
    for quantity, usual in QUANTITIES.items():
        # In vision there is no vocabulary, and pixels are held for each token.
        names = ("th", "t", "vh") if family in VISION and usual is OUTSIDE else usual
        values = [(each, found[quantity]) for each, found in measured if quantity in found]
        if len(values) < 3:
            continue
        coefficients, error = fit(values, names)
        key = {"model_type": family, "precision": mode.precision, "attention": mode.attention, "lora": mode.lora}
        numbers = {name: f"{coefficients.get(name, 0):g}" for name in FEATURES}
        rows.append({**key, "quantity": quantity, **numbers, "error": f"{error:.4f}"})
    return rows


def attempt(family: str, mode: Mode) -> tuple[list[dict[str, Any]], str]:
    """The rows, or why there are none (some families have no such attention)."""
    torch.set_num_threads(1)
    try:
        return rows_of(family, mode), ""
    except (ValueError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return [], f"{type(error).__name__}: {str(error)[:150]} ({where.filename.rpartition('/')[2]}:{where.lineno})"


def main(path: Path, families: list[str]) -> None:
    """Trace and write; the most useful modes first, so that a run that is cut short leaves a whole table of them."""
    names = families or [*DECODERS, *ENCODERS, "vit"]
    jobs = [(family, mode) for mode in MODES for family in names]
    header = ["model_type", "precision", "attention", "lora", "quantity", *FEATURES, "error"]
    kept: list[dict[str, Any]] = []
    with ProcessPoolExecutor(2) as pool:
        futures = {pool.submit(attempt, *job): job for job in jobs}
        for future in as_completed(futures):
            family, mode = futures[future]
            rows, why = future.result()
            kept += rows
            print(family, mode.precision, mode.attention, mode.lora, why or "ok", flush=True)
            write(path, header, kept)


def write(path: Path, header: list[str], rows: list[dict[str, Any]]) -> None:
    """The table, sorted, with its origin on top."""
    order = ("model_type", "precision", "attention", "lora", "quantity")
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# made by tools/trace_families.py, torch {torch.__version__}, transformers {transformers.__version__}\n"
        )
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: [row[key] for key in order]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
