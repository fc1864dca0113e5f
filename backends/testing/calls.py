"""Calling a backend as the lifecycle does: what may be done again is done again, what means "wait" is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from backends.base import (
    Backend,
    BackendError,
    Lease,
    LeaseRequest,
    Lost,
    Machine,
    NotYetGone,
    NotYetReady,
    Offer,
    Transient,
)
from backends.testing.provider import Provider

T = TypeVar("T")

PATIENCE_SECONDS = 90.0
"""How long anything may take that has to happen: a slow machine is no fault."""

KEY = "conformance-abcde-a1"


def wish(provider: Provider, backend: Backend, key: str = KEY, seconds: float = 3600.0) -> LeaseRequest:
    """For the cheapest offer that can be rented."""
    rentable = [offer for offer in backend.offers(provider.need) if not offer.missing and _meets(offer, provider)]
    assert rentable, "nothing can be rented"
    offer = min(rentable, key=lambda each: (each.micros_per_hour, each.name))
    ends_at = None if offer.shared else datetime.now(UTC) + timedelta(seconds=seconds)
    return LeaseRequest(key, offer, max_seconds=seconds, ends_at=ends_at)


def _meets(offer: Offer, provider: Provider) -> bool:
    return provider.need.gpu is None or offer.gpu_count >= provider.need.gpu.count


def create(provider: Provider, backend: Backend, key: str = KEY, seconds: float = 3600.0) -> Lease:
    """A machine; passing trouble is waited out."""
    return patiently(lambda: backend.create(wish(provider, backend, key, seconds)))


def obtained(backend: Backend, request: LeaseRequest) -> Lease:
    """Looked for, and asked for where it is not there, until it is: as after a crash."""

    def step() -> Lease:
        return backend.find(request.key) or backend.create(request)

    return patiently(step, (Transient, Lost))


def reached(backend: Backend, lease: Lease) -> Machine:
    """The machine, once it can be worked with."""
    return patiently(lambda: backend.connect(lease), (NotYetReady, Transient))


def deleted(backend: Backend, lease: Lease) -> None:
    """Given back, and seen to be gone."""
    patiently(lambda: backend.delete(lease), (NotYetGone, Transient))


def patiently(call: Callable[[], T], waits: tuple[type[BackendError], ...] = (Transient,)) -> T:
    """What ``call`` gives once it raises none of ``waits``."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except waits:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def eventually(what: Callable[[], object], why: str) -> None:
    """Wait until ``what`` is true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < end, f"never: {why}"
        time.sleep(0.1)


def raised(call: Callable[[], object], kinds: tuple[type[BackendError], ...]) -> bool:
    """Whether ``call`` raises one of ``kinds``."""
    try:
        call()
    except kinds:
        return True
    return False
