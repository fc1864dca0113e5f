"""The plugins of this repository, installed as their users install them."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

import pytest

from backends.base import Backend
from orchestrator import config
from orchestrator.lifecycle import registry

LAMBDA = Path(__file__).parents[1] / "plugins" / "gpujob-lambda"


@cache
def _installed(source: Path) -> Path:
    """A folder with the distribution in it, by pip, once for all tests of a process."""
    folder = Path(tempfile.mkdtemp(prefix="gpujob-plugin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    kept = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(source, folder / "source", ignore=kept)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    how = ["--no-build-isolation", "--target", str(folder / "site"), str(folder / "source")]
    subprocess.run([*pip, *how], check=True, capture_output=True, text=True)
    return folder / "site"


@contextmanager
def installed_lambda() -> Iterator[None]:
    """The Lambda plugin is found by its entry points, here and in every process that is started here."""
    site = str(_installed(LAMBDA))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (site, os.environ.get("PYTHONPATH")))))
        _forget_entry_points()
        yield
    _forget_entry_points()


def opener(backend: str) -> Callable[..., Backend]:
    """What the entry point of an installed backend gives."""
    (entry,) = entry_points(group="gpujob.backends", name=backend)
    return cast("Callable[..., Backend]", entry.load())


def _forget_entry_points() -> None:
    registry._installed.cache_clear()
    config._plugins.cache_clear()
