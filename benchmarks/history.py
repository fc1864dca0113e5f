"""A journal with 100,000 past jobs against one with 100: do ``ls``, ``show``, ``report`` and planning stay instant?

    .venv/bin/python benchmarks/history.py [JOBS] [ROUNDS]          (100000 and 9 unless named)

Whole processes, the two journals in turn, and ``python -c pass`` in the same rounds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from kit import GPUJOB, PASS, Middle, environment, interleaved, machine, ms, table, write_spec
from past import write_past

from orchestrator.home import Home
from orchestrator.spec.load import load_spec

FEW = 100


def commands(spec: Path, newest: str) -> dict[str, list[str]]:
    """What is measured on both journals."""
    report = {f"report --by {by}": ["report", "--by", by] for by in ("job", "backend", "variant", "day")}
    return {
        "ls": ["ls"],
        "ls -n 200": ["ls", "-n", "200"],
        "show JOB": ["show", newest],
        "logs JOB": ["logs", newest],
        **report,
        "report --since (a month)": ["report", "--since", "2026-10-20"],
        "plan SPEC": ["plan", str(spec), "--budget", "1"],
    }


def make_home(folder: Path, spec: Path, count: int) -> tuple[Home, float]:
    """A home whose journal has ``count`` past jobs; seconds that took."""
    home = Home(folder / f"home-{count}").ensure()
    loaded = load_spec(spec)
    plan = {"budget_usd": "3.00", "ladder": [], "rejected": [], "padding": "x" * 1500}
    options = {"backends": [], "digest": "digest", "path": "/usr/bin:/bin", "attempts_before": 0}
    began = time.perf_counter()
    write_past(home.journal, count, json.dumps(loaded.to_json()), json.dumps(options), json.dumps(plan))
    return home, time.perf_counter() - began


def compared(many: dict[str, Middle], few: dict[str, Middle], headers: tuple[str, str]) -> str:
    """Medians side by side, with the ratio between them."""
    rows = [
        (name, ms(few[name].wall), ms(each.wall), f"{each.wall / few[name].wall:.2f}", ms(few[name].cpu), ms(each.cpu))
        for name, each in many.items()
    ]
    return table(("process", *headers, "ratio", f"CPU, {headers[0]}", f"CPU, {headers[1]}"), rows)


def measure(folder: Path, count: int, rounds: int) -> tuple[dict[str, Middle], str]:
    """All commands on a journal of ``count`` jobs; and what that journal is."""
    spec = folder / "job" / "noop.yaml"
    home, took = make_home(folder, spec, count)
    size = home.journal.stat().st_size
    named = {name: [GPUJOB, *words] for name, words in commands(spec, f"ocr-eval-{count - count % 8 - 8:06d}").items()}
    found = interleaved({PASS: [sys.executable, "-c", "pass"], **named}, rounds, environment(home.root))
    return found, f"{count} jobs: {size / 1e6:.0f} MB, written in {took:.1f} s"


def main(count: int, rounds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="gpujob-bench-") as name:
        folder = Path(name)
        write_spec(folder / "job")
        print(f"{machine()}; {rounds} rounds\n")
        few, about_few = measure(folder, FEW, rounds)
        many, about_many = measure(folder, count, rounds)
    print(f"{about_few}; {about_many}\n\n{compared(many, few, (f'{FEW} jobs', f'{count} jobs'))}")


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*([*given, *[100_000, 9][len(given) :]]))
