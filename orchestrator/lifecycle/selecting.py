"""Which of a job's files travel."""

from __future__ import annotations

from orchestrator.home import Home
from orchestrator.spec.files import SelectedFile, select_files
from orchestrator.spec.model import JobSpec


def files_to_send(spec: JobSpec, home: Home) -> list[SelectedFile]:
    """What is uploaded. Never gpujob's own folder, should it lie in workdir: it holds secrets, and reading the
    journal's file beside SQLite would break SQLite's locks on it.
    """
    own = home.root.resolve()
    return [file for file in select_files(spec) if not (spec.workdir / file.path).resolve().is_relative_to(own)]
