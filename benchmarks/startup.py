"""What it costs to start ``gpujob``: whole processes against ``python -c pass``, measured in turn.

    .venv/bin/python benchmarks/startup.py [ROUNDS]          (15 unless named)

The aim for commands that only look: three times ``python -c pass`` and 150 ms.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from kit import GPUJOB, PASS, Middle, environment, interleaved, machine, ms, table, warm_worker, write_spec

TIMES, PLUS = 3, 0.150

LOOKING = {
    "gpujob --help": ["--help"],
    "gpujob ls": ["ls"],
    "gpujob show JOB": ["show", "noop"],
    "gpujob logs JOB": ["logs", "noop"],
    "gpujob report": ["report"],
    "gpujob config list": ["config", "list"],
}
STARTUP = frozenset({"sitecustomize", "usercustomize", "_distutils_hack", "org", "__editable___gpujob_0_1_0_finder"})
"""Loaded, or looked for, by Python itself and by an editable installation."""

LISTED = ("gpujob --help", "gpujob ls")


def measure(spec: Path, env: Mapping[str, str], rounds: int) -> dict[str, Middle]:
    """All commands on a journal with one finished job."""
    with warm_worker(spec, env):
        pass  # one job is over, and the worker has gone
    commands = {PASS: [sys.executable, "-c", "pass"]}
    commands |= {name: [GPUJOB, *words] for name, words in LOOKING.items()}
    commands["gpujob plan SPEC"] = [GPUJOB, "plan", str(spec), "--budget", "1"]
    return interleaved(commands, rounds, env)


def measured_table(found: Mapping[str, Middle]) -> str:
    """Medians, ratios, and whether the aim is met."""
    base = found[PASS]
    aim = TIMES * base.wall + PLUS
    rows = []
    for name, each in found.items():
        verdict = ("yes" if each.wall <= aim else "no") if name in LOOKING else ""
        rows.append((name, ms(each.wall), f"{each.wall / base.wall:.1f}", ms(each.best), ms(each.cpu), verdict))
    return table(("process", "median", "ratio", "quickest", "CPU time", f"within {ms(aim)}"), rows)


def import_listing(words: list[str], env: Mapping[str, str]) -> str:
    """Milliseconds of importing by top-level package, from ``-X importtime``; Python itself is one line."""
    command = [sys.executable, "-X", "importtime", "-m", "orchestrator.cli.main", *words]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr
    micros: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for line in said.splitlines():
        if line.startswith("import time:") and line.split("|")[0].split()[-1].isdigit():
            package = _package(line.rpartition("|")[2].strip())
            micros[package] += int(line.split("|")[0].split()[-1])
            modules[package] += 1
    rows = [(package, str(modules[package]), f"{took / 1000:.1f} ms") for package, took in micros.most_common()]
    return table(("package", "modules", "importing"), rows)


def _package(module: str) -> str:
    top = module.partition(".")[0]
    ours = top in ("orchestrator", "backends") or (top not in sys.stdlib_module_names and top not in STARTUP)
    return top if ours else "(Python itself)"


def main(rounds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="gpujob-bench-") as folder:
        env = environment(Path(folder) / "home")
        print(f"{machine()}; {rounds} rounds\n")
        print(measured_table(measure(write_spec(Path(folder) / "job"), env, rounds)))
        for name in LISTED:
            print(f"\nWhat `{name}` imports:\n\n{import_listing(LOOKING[name], env)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
