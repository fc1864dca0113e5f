"""Google Colab through a mailbox on Google Drive (docs/colab.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backends.colab.backend import ColabBackend


def open_backend(root: Path, settings: Mapping[str, Any]) -> ColabBackend:
    """The entry point: Colab with its state below ``root`` and the settings under ``colab.``."""
    from backends.colab.backend import ColabBackend
    from backends.colab.settings import Settings

    return ColabBackend(root, Settings.read(settings))
