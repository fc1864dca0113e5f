"""What holds of every job in jobs/: it can be submitted as it is, tried tiny, read about, and installed again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.spec.load import load_spec

JOBS = Path(__file__).parents[2] / "jobs"
SPECS = sorted(JOBS.glob("*/*.yaml"))
PINNED = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w.,-]+\])?==[^=\s]+( *;.*)?( *#.*)?")
OPTIONS = ("--only-binary", "--extra-index-url", "--index-url", "--find-links")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.parent.name)
def test_a_job_is_whole(path: Path) -> None:
    spec = load_spec(path)
    assert spec.results
    assert spec.smoke
    assert spec.smoke.params
    for variant in spec.variants:
        assert "{" not in spec.resolved(variant.name, spec.smoke).run
    page = (path.parent / "README.md").read_text()
    assert f"gpujob submit jobs/{path.parent.name}/{path.name} --budget" in page
    assert path.parent.name in (JOBS / "README.md").read_text(), "it is not in the list of jobs"


@pytest.mark.parametrize("path", sorted(JOBS.glob("*/requirements*.txt")), ids=lambda path: path.parent.name)
def test_requirements_are_pinned(path: Path) -> None:
    lines = [line.strip() for line in path.read_text().splitlines()]
    wanted = [line for line in lines if line and not line.startswith(("#", "-r ", *OPTIONS))]
    assert wanted
    assert [line for line in wanted if not PINNED.fullmatch(line)] == []
