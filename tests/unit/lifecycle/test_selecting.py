"""Scripts that nothing brings to the machine are told before anything is rented."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.home import Home
from orchestrator.lifecycle.selecting import absent_programs, files_to_send
from orchestrator.spec.load import parse_spec


def warnings(folder: Path, *lines: str) -> list[str]:
    (folder / "src").mkdir()
    (folder / "src" / "train.py").touch()
    (folder / "go.sh").touch()
    spec = parse_spec("\n".join(["name: job", *lines]), folder / "job.yaml")
    return list(absent_programs(spec, files_to_send(spec, Home(folder / "home"))))


@pytest.mark.parametrize(
    "line",
    [
        "run: python src/train.py --epochs 3",
        "run: bash ./go.sh && echo done",
        "run: python -m src.train",
        "run: echo python other.py",
        "run: python /opt/other.py",
        "run: python data.py\ninputs: [{source: https://example.com/a, dest: data.py, max_size: 1 kB}]",
        "run: python data/a.py\ninputs: [{source: https://example.com/a.py, dest: data/, max_size: 1 kB}]",
    ],
)
def test_what_is_there_or_brought_or_cannot_be_told_is_no_matter(tmp_path: Path, line: str) -> None:
    assert warnings(tmp_path, line) == []


def test_a_script_with_another_name_is_told_once(tmp_path: Path) -> None:
    (said,) = warnings(tmp_path, "run: python src/trian.py {n}", "params: {n: 1}", "variants: [{name: a}, {name: b}]")
    assert said.startswith("run begins with src/trian.py, which is not among the files")
    assert "did you mean 'src/train.py'?" in said


def test_the_folder_of_gpujob_itself_is_not_looked_into(tmp_path: Path) -> None:
    """Who stands in their home folder has it there, with environments whose links lead out."""
    home = Home(tmp_path / ".local" / "share" / "gpujob").ensure()
    (home.root / "python").symlink_to("/usr/bin/env")
    (tmp_path / "link").symlink_to(home.journal)
    home.journal.touch()
    spec = parse_spec("name: job\nrun: ls", tmp_path / "job.yaml")
    assert files_to_send(spec, home) == []
