"""The providers that the suite is run on: one function each, which opens it for one check."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.conformance.providers.adapter import Adapter, Bench
from tests.conformance.providers.aws import aws
from tests.conformance.providers.colab import colab
from tests.conformance.providers.gce import gce
from tests.conformance.providers.lambda_cloud import lambda_cloud
from tests.conformance.providers.local import local
from tests.conformance.providers.rented import rented
from tests.conformance.providers.runpod import runpod

PROVIDERS: dict[str, Callable[[Bench], AbstractContextManager[Adapter]]] = {
    "local": local,
    "runpod": runpod,
    "colab": colab,
    "aws": aws,
    "gce": gce,
    "lambda": lambda_cloud,
    "rented": rented,
}
