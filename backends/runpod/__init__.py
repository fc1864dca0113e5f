"""RunPod: pods rented by the second over REST v2, reached over SSH.

What is here, each file one thing: ``requests`` and ``replies`` say what is sent and what came back, without sending;
``client`` sends; ``catalog`` makes offers of it; ``pods`` is what a pod can be told; ``spot`` and ``sdk`` are other
roads to the same; ``boot`` is what a pod runs first; ``backend`` is the lease life cycle over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.runpod.backend import RunpodBackend
from backends.runpod.settings import Settings


def open_backend(root: Path, settings: Mapping[str, Any]) -> RunpodBackend:
    """The backend over ``root``; for the settings see ``docs/runpod.md``. Loads no HTTP library and no SDK."""
    return RunpodBackend(root, Settings.read(settings))
