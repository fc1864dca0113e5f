"""One request over HTTP to a provider's API: what is told of a call that fails on the way, and the provider's clock."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

import httpx

from backends.base import Transient
from backends.rented.calls import Malformed, Reply, Request, in_doubt

T = TypeVar("T")

CONNECT_SECONDS, REPLY_SECONDS = 10.0, 30.0


class Http:
    """A connection to one API address of ``provider``, shared by threads. Never waits and never sends twice."""

    def __init__(self, api: str, provider: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._provider, self._clock = api, provider, clock
        timeout = httpx.Timeout(REPLY_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx.Client(timeout=timeout, headers={"User-Agent": "gpujob"})
        weakref.finalize(self, self._http.close)
        self._provider_time: tuple[datetime, float] | None = None

    def send(self, request: Request, key: str) -> Reply:
        """The reply, whatever it says; should the provider have repeated the API key in it, it is not there any more:
        refusals are shown and recorded.

        Raises Transient where nothing was asked, and where a connection broke off; then Lost for a call that rents.
        """
        try:
            came = self._http.request(
                request.method,
                self._api + request.path,
                params=dict(request.query) or None,
                json=dict(request.body) if request.body is not None else None,
                headers={"Authorization": f"Bearer {key}"},
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Transient(f"{request.doing}: {self._provider} cannot be reached: {error}") from error
        except httpx.TransportError as error:
            words = str(error) or type(error).__name__
            raise in_doubt(
                request, f"{request.doing}: the connection to {self._provider} broke off: {words}"
            ) from error
        reply = Reply(came.status_code, {name.lower(): value for name, value in came.headers.items()}, came.content)
        if date := reply.date:
            self._provider_time = (date, self._clock())
        return reply if came.is_success else replace(reply, body=reply.body.replace(key.encode(), b"***"))

    def understood(self, request: Request, read: Callable[[], T]) -> T:
        """What ``read`` gives. A reply that is not as the contract says fails the call, never the program."""
        try:
            return read()
        except (Malformed, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise in_doubt(request, f"{request.doing}: {self._provider}'s reply makes no sense: {error}") from error

    def now(self) -> datetime | None:
        """The provider's clock, carried on by ours that nobody can set; None before the first reply."""
        if self._provider_time is None:
            return None
        date, seen = self._provider_time
        return date + timedelta(seconds=self._clock() - seen)
