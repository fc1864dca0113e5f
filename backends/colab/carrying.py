"""Which of the agent's modules are carried to a runtime, on either road."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parent / "agent"
FOLDERS = ("backends", "backends/colab")

_BOTH = ("__init__", "hardware", "trees", "work")
NOTEBOOK = (*_BOTH, "drive", "keeping", "lease", "models", "seal", "session")
"""What takes jobs from a mailbox on Drive."""
DESK = (*_BOTH, "desk", "ending")
"""What answers to Google's command line."""


def carried(modules: Iterable[str]) -> dict[str, str]:
    """The modules' files by their path below the folder that they are imported from."""
    files = {f"{folder}/__init__.py": "" for folder in FOLDERS}
    texts = {
        f"backends/colab/agent/{name}.py": (PACKAGE / f"{name}.py").read_text(encoding="utf-8") for name in modules
    }
    return files | dict(sorted(texts.items()))
