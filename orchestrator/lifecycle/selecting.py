"""Which of a job's files travel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orchestrator.home import Home
from orchestrator.spec.files import SelectedFile, select_files
from orchestrator.spec.model import JobSpec
from orchestrator.spec.problems import did_you_mean

_PROGRAM = re.compile(r"\s*(?:python3?|bash|sh)\s+(?:\./)?((?:[\w.-]+/)*[\w.-]+\.(?:py|sh))(?=[\s;&|]|$)")
"""A command that begins with running a script."""


def files_to_send(spec: JobSpec, home: Home) -> list[SelectedFile]:
    """What is uploaded. Never gpujob's own folder, should it lie in workdir: it holds secrets, and reading the
    journal's file beside SQLite would break SQLite's locks on it. Nor what links or inputs name of it.
    """
    own = home.root.resolve()
    return [file for file in select_files(spec, own) if not (spec.workdir / file.path).resolve().is_relative_to(own)]


def absent_programs(spec: JobSpec, files: Sequence[SelectedFile]) -> Iterable[str]:
    """A warning for every script that a run begins with and that nothing brings to the machine: found here it costs
    nothing.
    """
    sent = {str(file.path) for file in files}
    brought = {str(each.dest) for each in spec.inputs}
    runs = {variant.name: spec.resolved(variant.name).run for variant in spec.variants}
    programs = dict.fromkeys(match[1] for run in runs.values() if (match := _PROGRAM.match(run)))
    for program in programs:
        if program not in sent | brought and not any(
            program.startswith(folder) for folder in brought if folder.endswith("/")
        ):
            hint = did_you_mean(program, sent)
            yield (
                f"run begins with {program}, which is not among the files that are uploaded"
                f"{f' ({hint})' if hint else ''}; unless setup makes it, the job will fail"
            )
