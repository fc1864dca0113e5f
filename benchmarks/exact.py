"""Exact mode against other traces and against measured GPU memory; writes benchmarks/exact.md.

    make exact && .venv-exact/bin/python benchmarks/exact.py > benchmarks/exact.md

The measured rows are those of PEFT's own comparison that say how they ran: torch 2.13 on an L40S, the metric is
max_memory_reserved. Lengths of its batches change, and the source does not list them: both ends are shown, every batch
at the limit of 768 tokens, and the lengths that exact mode takes for `lengths: dynamic`.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "exact"))
from exact_kit import as_model, golden_rows, subject, traced

from orchestrator.planning.memory.estimate import estimate_memory

GB = 1e9
LLAMA = {"hf": "meta-llama/Llama-3.2-3B", "batch_size": 4, "seq_len": 768, "precision": "bf16"}
MEASURED: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("full fine-tuning", {}, 38.868615168),
    ("LoRA, rank 32, q and v", {"method": "lora", "lora": {"rank": 32}}, 22.29),
)
"""PEFT method_comparison/MetaMathQA/results, tests/data/measured_peaks.csv."""


def main() -> None:
    """Trace everything, print the page."""
    print(
        "# Exact mode against traces and measurements\n\nMade by `benchmarks/exact.py` (torch 2.13 for CPUs, ", end=""
    )
    print("transformers 5.23).\n\n## Peaks of another tracer\n")
    rows = [golden(row) for row in golden_rows()]
    errors = [abs(row[-1]) for row in rows]
    seconds = statistics.median(row[-2] for row in rows)
    print(
        f"{len(rows)} rows of tests/data/traced_peaks.csv, by allocated bytes: median {statistics.median(errors):.3%}, "
        f"worst {max(errors):.3%}. A trace took {seconds:.1f} s at the median, beside 3 s to load torch.\n"
    )
    header = ("model", "precision", "checkpointing", "batch x seq", "attention", "golden GB", "traced GB",
              "reserved GB", "needed GB", "seconds", "error")  # fmt: skip
    table(header, [[*row[:-2], f"{row[-2]:.1f}", f"{row[-1]:+.3%}"] for row in rows])
    print("\n## Reserved memory that was measured\n")
    table(
        ("PEFT, Llama-3.2-3B, 4 x 768, L40S", "measured GB", "traced, all 768", "traced, dynamic", "formulas, dynamic"),
        [measured(*each) for each in MEASURED],
    )
    print(
        "\nReserved memory with changing lengths is what the allocator would hoard on a GPU with memory to spare; this "
        "one has 48 GB,\nand what must be there is less (`needed_bytes`). The true order of lengths is not known."
    )


def golden(row: dict[str, str]) -> list[Any]:
    """A row of the first table; the last two are seconds and relative error."""
    found = traced(**as_model(row))
    golden_gb = float(row["peak_allocated_gb"])
    shown = [row["model"], row["precision"], row["gradient_checkpointing"], f"{row['batch']} x {row['seq']}",
             row["attention"], golden_gb]  # fmt: skip
    sizes = [f"{size / GB:.3f}" for size in (found.allocated_bytes, found.reserved_bytes, found.needed_bytes)]
    return [*shown, *sizes, found.seconds, found.allocated_bytes / GB / golden_gb - 1]


def measured(name: str, model: dict[str, Any], gigabytes: float) -> list[Any]:
    """A row of the second table."""
    fixed, dynamic = (traced(**LLAMA, **model, lengths=lengths) for lengths in ("fixed", "dynamic"))
    formulas = estimate_memory(subject(**LLAMA, **model, lengths="dynamic")).reserved_bytes
    return [name, f"{gigabytes:.2f}", *(against(size / GB, gigabytes) for size in
            (fixed.reserved_bytes, dynamic.reserved_bytes, formulas))]  # fmt: skip


def against(found: float, truth: float) -> str:
    """The value with its error."""
    return f"{found:.2f} ({found / truth - 1:+.1%})"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """In Markdown."""
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
