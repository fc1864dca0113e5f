"""``submit --smoke-first``: the smoke run as its user sees it, and how its failure is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

from backends.units import format_duration
from orchestrator.cli.growing import GrowingLog
from orchestrator.cli.screen import bad, complain, dim, good, say, say_json, wrapped
from orchestrator.cli.showing import new_evidence
from orchestrator.cli.submitting import Prepared
from orchestrator.cli.tails import last_lines_in
from orchestrator.clock import SystemClock
from orchestrator.config import Config
from orchestrator.home import Home
from orchestrator.lifecycle.logs import LOGS
from orchestrator.lifecycle.registry import Backends
from orchestrator.lifecycle.smoking import Smoked, smoke_run, smoke_settings

LAST_LINES = 12


class SmokeStopped(Exception):
    """The job is not submitted; ``code`` is the exit code. What there is to say of it has been said."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def smoke_first(home: Home, prepared: Prepared, *, as_json: bool) -> Smoked:
    """Run the plan's first variant tiny, here, its output shown. Raises SmokeStopped unless it went through."""
    spec, variant = prepared.spec, prepared.plan.ladder[0].variant
    limit = format_duration(smoke_settings(spec).timeout)
    to = sys.stderr if as_json else sys.stdout
    print(dim(f"Smoke run of {variant} on this machine's CPU, at most {limit}:"), file=to, flush=True)
    local = Backends(home, Config(home.config)).get("local")
    try:
        smoked = smoke_run(home, local, SystemClock(), spec, prepared.files, variant, _Shown(to))
    except KeyboardInterrupt:
        complain("the smoke run was ended; nothing was submitted, nothing spent")
        raise SmokeStopped(130) from None
    if not smoked.passed:
        _tell_failure(smoked, as_json=as_json)
        raise SmokeStopped(1)
    if not as_json:
        say(f"{good('✓')} {wrapped(smoked.note, 2).lstrip()}\n")
    return smoked


class _Shown:
    """The output of a run, passed on as it comes."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self._logs: dict[Path, GrowingLog] = {}

    def __call__(self, folder: Path) -> None:
        for path in (folder / name for name in LOGS):
            self._logs.setdefault(path, GrowingLog(path, self._to)).show_new(last=False)


def _tell_failure(smoked: Smoked, *, as_json: bool) -> None:
    lines = [line for name in LOGS for line in last_lines_in(smoked.end.tails.get(name, b""), LAST_LINES)][-LAST_LINES:]
    if as_json:
        say_json({"smoke": {**smoked.to_json(), "last_lines": lines}})
        return
    verdict = smoked.end.verdict
    say(f"{bad('✗')} {wrapped(smoked.note, 2).lstrip()}")
    for line in new_evidence(verdict.outcome.value, verdict.summary, list(verdict.evidence)):
        say(dim(wrapped(line, 4)))
    say("  Nothing was submitted, rented or spent. Its last lines:")
    for line in lines:
        say(dim(f"      {line}"))
