"""Running a trace beside gpujob: a process of its own, bounded in time and memory, that needs torch installed here."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.runner import TRACING_PATH
from orchestrator.planning.memory.exact import Traced

SECONDS = 180.0
"""Longest trace; 5 seconds are usual, most of them to load torch."""

INSTALL = (
    "Install torch and transformers beside gpujob: pip install 'gpujob[exact]' "
    "(about 1 GB; on Linux add --extra-index-url https://download.pytorch.org/whl/cpu, or torch brings CUDA along)"
)


def run_trace(request: Mapping[str, Any], seconds: float = SECONDS, python: str = sys.executable) -> Traced | str:
    """The trace, or why there is none, in a sentence. Never raises for what the model's code does."""
    if why := request["unsupported"]:
        return f"{request['name']} was not traced: {why}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        path.write_text(json.dumps(request), encoding="utf-8")
        try:
            done = subprocess.run(
                [python, "-m", TRACING_PATH.name, "trace", str(path)], cwd=TRACING_PATH.parent,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"{request['name']} was not traced: it took longer than {seconds:g} s"
    if done.returncode == 0:
        return Traced(**json.loads(done.stdout.splitlines()[-1]))
    said = (done.stderr.strip().splitlines() or [""])[-1].strip()
    if "was not traced" not in said:  # torch has ended the process by itself
        said = f"{request['name']} was not traced: the tracer ended with {done.returncode}" + (said and f" ({said})")
    return f"{said}. {INSTALL}" if "is not installed" in said else said
