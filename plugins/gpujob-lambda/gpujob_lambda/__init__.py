"""Lambda Cloud: virtual machines rented by the minute over REST v1, reached over SSH.

What is here, each file one thing: ``settings`` says what can be set, ``requests`` and ``replies`` what is sent and what
came back, without sending; ``client`` sends; ``catalog`` makes offers of it; ``marks`` says whose a machine is;
``backend`` is the lease life cycle over all of them. The tests are beside gpujob's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpujob_lambda.backend import LambdaBackend
from gpujob_lambda.settings import Settings


def open_backend(root: Path, settings: Mapping[str, Any]) -> LambdaBackend:
    """The backend over ``root``. Loads no HTTP library."""
    return LambdaBackend(root, Settings.read(settings))
