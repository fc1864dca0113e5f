"""Tests of the jobs that need torch: `make test-jobs` installs what they need and runs them.

Where it is missing no module here is imported, so a test may import torch at its top; each is skipped, and says why.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

NEEDED = (
    "torch",
    "transformers",
    "torchao",
    "accelerate",
    "peft",
    "datasets",
    "jiwer",
    "sklearn",
    "PIL",
)
LACKING = [name for name in NEEDED if find_spec(name) is None]


class NotTested(pytest.Module):
    """A module of tests that cannot be imported here."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(f"NOT TESTED: needs {', '.join(LACKING)}: run `make test-jobs`", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return NotTested.from_parent(parent, path=module_path) if LACKING else None
