"""A backend whose passing troubles are waited out: single calls retried with tenacity, around the protocol.

This is the lowest of three levels. A call is retried here for seconds; a step is retried by the journal, for minutes
and over crashes; an attempt is retried by the ladder, elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from backends.base import (
    Backend,
    Billed,
    Counted,
    Fated,
    Inspected,
    Keyed,
    Lease,
    LeaseRequest,
    Machine,
    Metered,
    Need,
    Offer,
    Outlived,
    Progress,
    RunStatus,
    SeenGpu,
    SetupState,
    SignedIn,
    Transient,
)

CALL_TRIES = 4
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
"""Seconds; doubling, with jitter so that many jobs do not knock at the same moment."""

LONGEST_ASKED_WAIT = 60.0
"""Seconds that a provider may ask for here; the window of a rate limit counted by the minute. More is the journal's."""

P = ParamSpec("P")
T = TypeVar("T")


class _Patient:
    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep

    def _call(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        policy = Retrying(
            retry=retry_if_exception_type(Transient),
            stop=stop_after_attempt(CALL_TRIES),
            wait=_pause,
            sleep=self._sleep,
            reraise=True,
        )
        return policy(verb, *args, **kwargs)


_backoff = wait_random_exponential(FIRST_WAIT, LONGEST_WAIT)


def _pause(state: RetryCallState) -> float:
    """Seconds until the next try: what the provider asked for, and the jitter on top so that not all come at once."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, Transient) else None
    return _backoff(state) + min(asked or 0.0, LONGEST_ASKED_WAIT)


class PatientBackend(_Patient):
    """Any backend, with Transient retried. Everything else passes through as it is."""

    def __init__(self, inner: Backend, sleep: Callable[[float], None]) -> None:
        super().__init__(sleep)
        self.name = inner.name
        self._inner = inner

    @property
    def unpatient(self) -> Backend:
        """The backend itself, for a call that is not worth waiting for."""
        return self._inner

    @property
    def metered(self) -> Metered | None:
        """The optional power to measure leases; None where the backend has not got it."""
        return self._inner if isinstance(self._inner, Metered) else None

    @property
    def billed(self) -> Billed | None:
        """The optional power to read the provider's own account; None where the backend has not got it."""
        return self._inner if isinstance(self._inner, Billed) else None

    @property
    def keyed(self) -> Keyed | None:
        """The optional power to be set up by one key; None where the backend has not got it."""
        return self._inner if isinstance(self._inner, Keyed) else None

    @property
    def signed_in(self) -> SignedIn | None:
        """The optional power to be set up in a browser; None where the backend has not got it."""
        return self._inner if isinstance(self._inner, SignedIn) else None

    @property
    def fated(self) -> Fated | None:
        """The optional power to say what became of a machine; None where the backend has not got it."""
        return self._inner if isinstance(self._inner, Fated) else None

    def remains(self, lease: Lease) -> Machine | None:
        """What outlived the machine of ``lease``; None where the backend has not got that power, or nothing did."""
        found = self._call(self._inner.remains, lease) if isinstance(self._inner, Outlived) else None
        return PatientMachine(found, self._sleep) if found else None

    def offers(self, need: Need) -> Iterable[Offer]:
        """See Backend."""
        return self._call(lambda: list(self._inner.offers(need)))

    def create(self, request: LeaseRequest) -> Lease:
        """See Backend."""
        return self._call(self._inner.create, request)

    def find(self, key: str) -> Lease | None:
        """See Backend."""
        return self._call(self._inner.find, key)

    def owned(self) -> Iterable[Lease]:
        """See Backend."""
        return self._call(lambda: list(self._inner.owned()))

    def delete(self, lease: Lease) -> None:
        """See Backend."""
        self._call(self._inner.delete, lease)

    def connect(self, lease: Lease) -> PatientMachine:
        """See Backend."""
        return PatientMachine(self._call(self._inner.connect, lease), self._sleep)

    def setup_state(self) -> SetupState:
        """See Backend."""
        return self._call(self._inner.setup_state)


class PatientMachine(_Patient):
    """Any machine, with Transient retried."""

    def __init__(self, inner: Machine, sleep: Callable[[float], None]) -> None:
        super().__init__(sleep)
        self._inner = inner

    @property
    def received_bytes(self) -> int:
        """See Counted; 0 of a machine that has not that power."""
        return self._inner.received_bytes if isinstance(self._inner, Counted) else 0

    def gpus(self) -> list[SeenGpu] | None:
        """See Inspected; None from a machine that has not that power."""
        return self._call(self._inner.gpus) if isinstance(self._inner, Inspected) else None

    def push(self, tree: Path, dest: str, progress: Progress) -> None:
        """See Machine."""
        self._call(self._inner.push, tree, dest, progress)

    def start(self, job_dir: str, secrets: Mapping[str, str]) -> None:
        """See Machine."""
        self._call(self._inner.start, job_dir, secrets)

    def status(self, job_dir: str) -> RunStatus:
        """See Machine."""
        return self._call(self._inner.status, job_dir)

    def read(self, path: str, offset: int, limit: int = 1 << 20) -> bytes:
        """See Machine."""
        return self._call(self._inner.read, path, offset, limit)

    def pull(self, path: str, dest: Path, progress: Progress) -> bool:
        """See Machine."""
        return self._call(self._inner.pull, path, dest, progress)

    def signal(self, job_dir: str, reason: str) -> None:
        """See Machine."""
        self._call(self._inner.signal, job_dir, reason)
