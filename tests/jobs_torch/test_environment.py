"""What the tests of jobs stand on: torch without a GPU, and a job's own command with its smoke settings."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import jobs_kit
import torch


def test_torch_here_computes_on_the_cpu() -> None:
    assert torch.version.cuda is None or not torch.cuda.is_available()
    assert torch.ones(2, 3).sum().item() == 6


def test_a_job_runs_with_its_smoke_settings_in_a_folder_of_its_own(tmp_path: Path) -> None:
    done = jobs_kit.run_smoke("quickstart", tmp_path, limit=200)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["n_train"] + metrics["n_test"] == 200
    picture = (tmp_path / "results" / "confusion.png").read_bytes()
    assert struct.unpack(">8s", picture[:8]) == (b"\x89PNG\r\n\x1a\n",)
