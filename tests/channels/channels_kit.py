"""What tests of channels share."""

from __future__ import annotations

from pathlib import Path


def silent(done: int, total: int) -> None:
    assert done <= total


def content(top: Path) -> dict[str, object]:
    """Everything below ``top``: bytes of files, targets of links, None for folders."""
    return {
        str(path.relative_to(top)): path.readlink()
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in top.rglob("*")
    }
