"""AWS: EC2 instances with NVIDIA GPUs, on demand or spot, rented by the second and reached over SSH.

What is here, each file one thing: ``requests``, ``stage_requests`` (of S3) and ``replies`` say what is asked and what
came back, without asking; ``client`` asks; ``catalog`` makes offers; ``market`` reads prices, quotas and places;
``network`` keeps our security group, ``staging`` our buckets; ``marks`` says whose an instance is; ``asked`` remembers
what no answer came to; ``backend`` is the life cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.aws.backend import AwsBackend
from backends.aws.settings import Settings


def open_backend(root: Path, settings: Mapping[str, Any]) -> AwsBackend:
    """The backend over ``root``; for the settings see ``docs/aws.md``. Does not load boto3."""
    return AwsBackend(root, Settings.read(settings))
