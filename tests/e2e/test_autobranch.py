"""The autobranch job submitted as it is, but for its size: smoke run, results at home, and what the planner learns."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from e2e_kit import REPOSITORY, Gpujob


def with_ollama(user: Gpujob, folder: Path) -> str:
    """The job's folder, its RAM cut to what any machine has, a stand-in ``ollama`` on PATH; the spec's file name."""
    standin = folder / "standin"
    standin.mkdir()
    (standin / "faults.json").write_text("{}")
    program = (REPOSITORY / "tests" / "jobs" / "ollama_standin.py").read_text()
    lines = program.replace('os.environ["OLLAMA_STANDIN"]', repr(str(standin)))
    (standin / "ollama").write_text(f"#!{sys.executable}\n{lines}")
    (standin / "ollama").chmod(0o755)
    user.env["PATH"] = f"{standin}:{user.environment()['PATH']}"
    shutil.copytree(REPOSITORY / "jobs" / "autobranch", user.cwd / "autobranch")
    spec = user.cwd / "autobranch" / "creative.yaml"
    text = spec.read_text().replace("ram: 8 GB", "ram: 600 MB").replace("disk: 20 GB", "disk: 100 MB")
    spec.write_text(text.replace("~/.cache/autobranch", str(folder / "cache")))
    return "autobranch/creative.yaml"


def test_smoke_run_result_and_what_is_learned(user: Gpujob, tmp_path: Path) -> None:
    spec = with_ollama(user, tmp_path)
    local = ("--backend", "local")
    before = json.dumps(user.json("plan", spec, "--budget", "0", *local)["ladder"])
    assert "the spec expects 8 min on T4" in before
    detail = user.submit(spec, "--smoke-first", *local)
    assert [(each["variant"], each["outcome"]) for each in detail["attempts"]] == [("cpu", "succeeded")]
    assert [note["kind"] for note in detail["notes"]] == ["smoke"]
    results = user.home / "jobs" / detail["id"] / "attempt-1" / "files" / "results"
    found = json.loads((results / "branches.json").read_text())
    assert len(found) == 4
    assert all(len(each["branches"]) == 4 and len(each["pruned"]) == 6 for each in found)
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["generations"] == 40
    after = json.dumps(user.json("plan", spec, "--budget", "0", *local)["ladder"])
    assert "here before" in after
    shared = tmp_path / "history.jsonl"
    user.run("history", "export", str(shared))
    (observation,) = [json.loads(line) for line in shared.read_text().splitlines()]
    assert observation["step_seconds"] == metrics["seconds_per_generation"]["median"]
