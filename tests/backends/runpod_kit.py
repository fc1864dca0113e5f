"""What the tests of the RunPod backend say often."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from backends.base import GpuNeed, Lease, LeaseRequest, Need, NotYetGone, NotYetReady, Offer, Transient
from backends.runpod.backend import RunpodBackend

T = TypeVar("T")

PATIENCE = 60.0
OFFER = "secure RTX 4090"
RTX_4090 = "NVIDIA GeForce RTX 4090"


def the_offer(backend: RunpodBackend, name: str = OFFER, count: int = 1) -> Offer:
    return next(offer for offer in backend.offers(Need(gpu=GpuNeed(count=count))) if offer.name == name)


def rented(backend: RunpodBackend, key: str = "job-abcde-a1", name: str = OFFER, **wish: Any) -> Lease:
    return backend.create(LeaseRequest(key, the_offer(backend, name), **{"max_seconds": 3600.0, **wish}))


def sooner_or_later(call: Callable[[], T]) -> T:
    """What ``call`` gives once it is no more "not yet"; RunPod and sshd take their time."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except (NotYetReady, NotYetGone, Transient):
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def until(what: Callable[[], object], why: str) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, f"never: {why}"
        time.sleep(0.1)
