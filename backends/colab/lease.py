"""The lease that a claim stands for: the same whoever makes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from backends.base import Lease
from backends.colab.records import Claim
from backends.colab.settings import NAME


def lease_of(claim: Claim) -> Lease:
    """On either road. A runtime that was started by Google's command is told how it is ended from inside."""
    by_command = claim.road == "command"
    root = claim.root or "/content/gpujob/jobs"
    details: dict[str, Any] = {
        "offer": claim.offer,
        "place": None if by_command else claim.agent,
        "gpus": list(range(claim.gpu_count)),
        "jobs": root if by_command else f"{root}/{claim.key}",
        "environments": f"{root}/environments",
        "input_cache": f"{root}/inputs",
        "python": "python3",
        "micros_per_hour": claim.micros_per_hour,
    }
    if claim.ends_itself:
        details["stop"] = [claim.ends_itself]
    return Lease(claim.key, NAME, claim.folder, datetime.fromtimestamp(claim.began, UTC), details)
