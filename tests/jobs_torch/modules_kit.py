"""The modules of a job, as its own program imports them, side by side with those of other jobs."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

JOBS = Path(__file__).parents[2] / "jobs"


def job_modules(job: str, *names: str) -> tuple[ModuleType, ...]:
    """Modules of ``jobs/<job>`` by name; the next job may have modules of the same names."""
    folder = str(JOBS / job)
    sys.path.insert(0, folder)
    try:
        return tuple(import_module(name) for name in names)
    finally:
        sys.path.remove(folder)
        own = [name for name, each in sys.modules.items() if str(getattr(each, "__file__", "")).startswith(folder)]
        for name in own:
            del sys.modules[name]
