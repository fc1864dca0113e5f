"""Measure how well a vision-language model reads pages: error rates, seconds, memory, and the worst pages as pictures.

    python ocr_eval.py --model deepseek-ai/DeepSeek-OCR --load fp16 --out results/
    python ocr_eval.py --model ./my-model --pages my-pages/ --out results/

Leaves metrics.json, predictions.jsonl, tables.md and worst-<n>.png in the results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pages import Page, own_pages, write_pages
from reading import LOADS, Reader, device, load_reader
from scoring import Score, rates, score, table, total
from tiny_model import write_tiny_model
from worst import draw_page

PAGES, TINY = Path("work", "pages"), Path("work", "tiny-model")


def report(line: str) -> None:
    """Print ``line`` at once, so that it can be followed from afar."""
    print(line, flush=True)


def peaks() -> dict[str, int]:
    """The most memory so far: anonymous RAM now, resident RAM and VRAM at their peaks, in bytes.

    Pages of a mapped file count as resident, but the system can drop them; what kills is anonymous memory.
    """
    found = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if _darwin() else 1024)}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(("VmHWM:", "RssAnon:")):
                name = "peak_rss_bytes" if line.startswith("VmHWM:") else "ram_anonymous_bytes"
                found[name] = int(line.split()[1]) * 1024
    if torch.cuda.is_available():
        found["peak_vram_allocated_bytes"] = torch.cuda.max_memory_allocated()
        found["peak_vram_reserved_bytes"] = torch.cuda.max_memory_reserved()
    return found


def _darwin() -> bool:
    return sys.platform == "darwin"


def read_all(reader: Reader, pages: Sequence[Page], folder: Path, out: Path) -> tuple[list[str], list[float]]:
    """What is read on each page, and its seconds; written down page by page, so that a run that dies leaves them."""
    texts: list[str] = []
    seconds: list[float] = []
    with (out / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for number, page in enumerate(pages, 1):
            start = time.perf_counter()
            texts.append(reader.read(folder / f"{page.name}.png"))
            seconds.append(time.perf_counter() - start)
            each = score(page.text, texts[-1])
            row = {**asdict(page), "read": texts[-1], "seconds": round(seconds[-1], 3), **rates(each)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            report(f"{number} of {len(pages)}: {page.name} in {seconds[-1]:.1f} s, {each.cer:.1%} of characters wrong")
    return texts, seconds


def tables(pages: Sequence[Page], scores: Sequence[Score]) -> dict[str, list[dict[str, Any]]]:
    """Error rates by document, and by each way in which pages differ."""
    kinds = ("document", "font", "size", "noise", "rotation")
    return {f"by_{kind}": table([getattr(page, kind) for page in pages], scores) for kind in kinds}


def as_markdown(found: dict[str, list[dict[str, Any]]]) -> str:
    """The tables, for reading."""
    blocks = []
    for title, rows in found.items():
        lines = [f"| {title[3:]} | pages | characters wrong | words wrong |", "|---|---:|---:|---:|"]
        lines += [f"| {row['name']} | {row['pages']} | {row['cer']:.2%} | {row['wer']:.2%} |" for row in rows]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def draw_worst(
    pages: Sequence[Page], scores: Sequence[Score], texts: Sequence[str], folder: Path, out: Path, count: int
) -> list[str]:
    """Draw the ``count`` pages with the highest character error rate; their names, worst first, are returned."""
    order = sorted(range(len(pages)), key=lambda place: (-scores[place].cer, place))[:count]
    for rank, place in enumerate(order, 1):
        page, each = pages[place], scores[place]
        caption = f"{page.name}: {each.cer:.1%} of characters, {each.wer:.1%} of words wrong"
        draw_page(folder / f"{page.name}.png", texts[place], caption).save(out / f"worst-{rank}.png")
    return [pages[place].name for place in order]


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Load, read, score, and leave everything in ``args.out``; the metrics are returned."""
    args.out.mkdir(parents=True, exist_ok=True)
    folder = Path(args.pages) if args.pages else PAGES
    pages = own_pages(folder) if args.pages else write_pages(folder, args.count, args.seed, report)
    model = str(write_tiny_model(TINY)) if args.model == "tiny" else args.model
    start = time.perf_counter()
    reader = load_reader(model, args.load, args.prompt, args.max_tokens, args.revision)
    loading = {"seconds": round(time.perf_counter() - start, 2), **peaks()}
    report(f"{args.model} loaded as {args.load} on {device()} in {loading['seconds']} s: {loading}")
    texts, seconds = read_all(reader, pages, folder, args.out)
    scores = [score(page.text, text) for page, text in zip(pages, texts, strict=True)]
    found = tables(pages, scores)
    metrics = {
        "model": args.model,
        "load": args.load,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "pages": len(pages),
        **rates(total(scores)),
        "seconds_per_page": round(sum(seconds) / len(seconds), 3),
        "loading": loading,
        **peaks(),
        "worst": draw_worst(pages, scores, texts, folder, args.out, args.worst),
        **found,
        "versions": {"python": platform.python_version(), **versions()},
    }
    (args.out / "tables.md").write_text(as_markdown(found), encoding="utf-8")
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    tell(metrics["seconds_per_page"])
    return metrics


def versions() -> dict[str, str]:
    """Of what decides about memory and speed, as far as it is installed."""
    found = {}
    for package in ("torch", "transformers", "bitsandbytes", "jiwer", "pillow"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def tell(step_seconds: float) -> None:
    """Tell gpujob what a page takes, where it runs this."""
    if told := os.environ.get("GPUJOB_METRICS"):
        Path(told).write_text(json.dumps({"step_seconds": step_seconds}), encoding="utf-8")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure how well a vision-language model reads pages.")
    parser.add_argument("--model", default="deepseek-ai/DeepSeek-OCR", help="folder, name on the hub, or tiny")
    parser.add_argument("--revision", default="", help="commit of the model's repository, whose code is run")
    parser.add_argument("--load", choices=LOADS, default="bf16")
    parser.add_argument("--prompt", default="Free OCR.")
    parser.add_argument("--max-tokens", type=int, default=2048, help="for models that have no infer of their own")
    parser.add_argument("--pages", default="", help="folder of NAME.png and NAME.txt; pages are made if not given")
    parser.add_argument("--count", type=int, default=24, help="pages to make (default: 24)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worst", type=int, default=4, help="worst pages to draw (default: 4)")
    parser.add_argument("--out", type=Path, default=Path("results"))
    return parser.parse_args()


def main() -> int:
    """Evaluate, and say the result in one line."""
    args = parse()
    try:
        metrics = evaluate(args)
    except FileNotFoundError as error:
        print(f"ocr_eval: {error}", file=sys.stderr)
        return 2
    report(
        f"{metrics['cer']:.2%} of characters and {metrics['wer']:.2%} of words wrong on {metrics['pages']} pages, "
        f"{metrics['seconds_per_page']} s per page; see {args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
