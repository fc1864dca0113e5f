"""Code in docs/writing-a-backend.md is code that runs: each block is an excerpt of the file named above it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-backend.md"
BLOCKS = re.findall(r"(?m)^\[`([^`]+)`\]\([^)]+\):\n\n```\w+\n((?:.|\n)*?)\n```$", PAGE.read_text(encoding="utf-8"))


def test_no_block_is_without_its_file() -> None:
    assert len(BLOCKS) == PAGE.read_text(encoding="utf-8").count("\n```\n") > 8


@pytest.mark.parametrize(
    ("name", "code"), BLOCKS, ids=[f"{n}-{name.split('/')[-1]}" for n, (name, _) in enumerate(BLOCKS)]
)
def test_a_block_is_what_its_file_says(name: str, code: str) -> None:
    text = (PAGE.parents[1] / name).read_text(encoding="utf-8")
    assert bare(code) in bare(text), f"{name} says otherwise"


def bare(code: str) -> str:
    """Without what a formatter adds and takes, since an excerpt is indented less than its file."""
    return re.sub(r"\s+|,(?=\s*[)\]}])", "", code)
