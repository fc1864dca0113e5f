"""Google Compute Engine: instances with NVIDIA GPUs, standard or spot, rented by the second and reached over SSH.

What is here, each file one thing: ``requests`` and ``replies`` say what is asked and what came back, without asking;
``client`` asks; ``catalog`` makes offers; ``market`` reads quotas, zones and images; ``network`` keeps our two firewall
rules; ``marks`` says whose an instance is; ``asked`` remembers where each was asked for; ``backend`` is the life cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.gce.backend import GceBackend
from backends.gce.settings import Settings


def open_backend(root: Path, settings: Mapping[str, Any]) -> GceBackend:
    """The backend over ``root``; for the settings see ``docs/gce.md``. Loads none of Google's packages."""
    return GceBackend(root, Settings.read(settings))
