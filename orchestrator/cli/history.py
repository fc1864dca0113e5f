"""``gpujob history``: what was learned, as a file for others, from others, or forgotten."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.cli.screen import good, is_terminal, say
from orchestrator.home import Home
from orchestrator.lifecycle.probes import forget_probes
from orchestrator.records.learned import newest_observations
from orchestrator.records.observations import add_observations, forget_observations
from orchestrator.records.reading import Reader
from orchestrator.records.sharing import HistoryError, from_lines, to_line
from orchestrator.records.store import Store

MOST_SHARED = 100_000
"""Observations in one file; the newest. Calibration looks at a few hundred."""


def export_history(home: Home, file: Path) -> int:
    """Write all observations, oldest first; the file appears whole or not at all."""
    lines = [to_line(each) for each in newest_observations(Reader(home.journal), MOST_SHARED)]
    draft = file.with_name(f"{file.name}.draft")
    draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    draft.replace(file)
    say(f"{good('✓')} {_count(len(lines))} written to {file}: names of jobs and models of GPUs, no secrets, no paths.")
    return 0


def import_history(home: Home, file: Path) -> int:
    """Record the observations that are new. Raises HistoryError and records nothing if a line is wrong."""
    try:
        found = list(from_lines(file.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise HistoryError(f"{file}: {error.strerror}. Nothing was imported.") from None
    except UnicodeDecodeError:
        raise HistoryError(f"{file} is not a file of JSON lines. Nothing was imported.") from None
    added = add_observations(Store(home.journal), found)
    say(f"{good('✓')} {_count(added)} learned from {file}; {len(found) - added} were known already.")
    return 0


def reset_history(home: Home, job: str | None, *, yes: bool) -> int:
    """Forget; asks first, and without a terminal to ask at needs ``--yes``."""
    what = f"jobs named {job}" if job else "all jobs"
    if not yes and not _confirmed(f"Forget what runs of {what} taught? Jobs, results and costs stay. [y/N] "):
        say("Nothing was forgotten." + ("" if is_terminal() else " Add --yes to forget without being asked."))
        return 1
    observations, probes = forget_observations(Store(home.journal), job), forget_probes(home, job)
    also = f" and {probes} probe{'s' * (probes > 1)}" if probes else ""
    say(f"{good('✓')} {_count(observations)}{also} of {what} forgotten.")
    return 0


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and is_terminal() and input(question).strip().lower() in ("y", "yes")


def _count(number: int) -> str:
    return "1 observation" if number == 1 else f"{number} observations"
