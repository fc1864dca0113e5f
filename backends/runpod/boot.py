"""What a pod runs first: the deadline guard, then sshd. The scripts lie beside this file and are read as they are."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


@cache
def end_pod_script() -> str:
    """Ends the pod it runs in, by whatever means it finds: what the runner is given as its ``stop`` command."""
    return (_HERE / "end_pod.sh").read_text(encoding="utf-8")


@cache
def boot_script() -> str:
    """The first thing that runs in a pod; ``end_pod`` in it is :func:`end_pod_script`."""
    boot = (_HERE / "boot.sh").read_text(encoding="utf-8")
    return f"end_pod() (\n{end_pod_script()}\n)\n{boot}"


def one_argument(script: str) -> str:
    """``script`` as a line without double quotes or newlines, for roads that paste it into a string unescaped."""
    return f"sh -c 'echo {base64.b64encode(script.encode()).decode()} | base64 -d | sh'"
