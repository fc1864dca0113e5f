"""What comes home: the branches, for programs and for people, and what they took."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from pruning import Pruned, Vector, prune
from writing import Opening, Writer


def write_results(
    out: Path,
    prompts: Mapping[str, str],
    written: Mapping[str, Sequence[Opening]],
    vectors: Mapping[str, Sequence[Vector]],
    writer: Writer,
    *,
    keep: int,
    similarity: float,
) -> None:
    """Prune, and leave everything in ``out``; ``metrics.json`` last, so that it is there only if the rest is."""
    pruned = {name: prune(vectors[name], keep, similarity) for name in prompts}
    found = [_scenario(name, prompts[name], written[name], pruned[name]) for name in prompts]
    _save(out / "branches.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    _save(out / "branches.md", "\n".join(_page(each) for each in found))
    measured = metrics(writer)
    measured["branches"] = {name: len(each.kept) for name, each in pruned.items()}
    if measured["seconds_per_generation"] and (told := os.environ.get("GPUJOB_METRICS")):
        _save(Path(told), json.dumps({"step_seconds": measured["seconds_per_generation"]["median"]}))
    _save(out / "metrics.json", json.dumps(measured, indent=2) + "\n")
    kept, of = sum(measured["branches"].values()), sum(map(len, written.values()))
    print(f"{kept} branches of {of} openings kept; see {out / 'branches.md'}", flush=True)


def metrics(writer: Writer) -> dict[str, Any]:
    """What the run took. ``seconds_per_generation`` is None where an earlier run had written every opening."""
    seconds, total = writer.seconds, sum(writer.seconds)
    return {
        "model": writer.settings.model,
        "embedder": writer.settings.embedder,
        **writer.loaded,
        "processor": "gpu" if writer.loaded["size_vram_bytes"] >= writer.loaded["size_bytes"] else "cpu",
        "generations": len(seconds),
        "resumed": writer.resumed,
        "seconds_per_generation": {
            "median": round(median(seconds), 3), "mean": round(mean(seconds), 3), "max": max(seconds),
        } if seconds else None,
        "tokens_per_second": round(writer.tokens / total, 2) if total else None,
        "pull_seconds": round(writer.pull_seconds, 3),
        "load_seconds": round(writer.load_seconds, 3),
        "embed_seconds": round(writer.embed_seconds, 3),
        "restarts": writer.server.restarts,
        "seed": writer.settings.seed,
        "versions": {"python": platform.python_version(), "ollama": writer.server.ask("/api/version")["version"]},
    }  # fmt: skip


def _scenario(name: str, prompt: str, openings: Sequence[Opening], pruned: Pruned) -> dict[str, Any]:
    """Every opening, those kept first, each with its similarity to the nearest that was kept before it."""
    rest = [index for index in range(len(openings)) if index not in pruned.kept]
    each = [
        {
            "candidate": index,
            "seed": openings[index].seed,
            "similarity": round(pruned.nearest[index], 6),
            "text": openings[index].text,
        }
        for index in (*pruned.kept, *rest)
    ]
    return {
        "scenario": name,
        "prompt": prompt,
        "branches": each[: len(pruned.kept)],
        "pruned": each[len(pruned.kept) :],
    }


def _page(scenario: Mapping[str, Any]) -> str:
    lines = [f"# {scenario['scenario']}", "", f"> {scenario['prompt']}", ""]
    for number, branch in enumerate(scenario["branches"], 1):
        lines += [f"## Branch {number}", "", branch["text"], ""]
    return "\n".join([*lines, f"{len(scenario['pruned'])} more were too like these, or too many.", ""])


def _save(path: Path, text: str) -> None:
    """Whole or not at all."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
