"""Sends requests to RunPod: one call, one request. Never waits for a rate limit and never sends twice."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import httpx

from backends.base import Lost, Transient
from backends.runpod.quota import Quota
from backends.runpod.replies import Malformed, Reply, problem, read_graphql
from backends.runpod.requests import Request

T = TypeVar("T")

CONNECT_SECONDS, REPLY_SECONDS = 10.0, 30.0


class Client:
    """A connection to one API address, shared by threads. ``key`` is asked for the API key at every call."""

    def __init__(self, api: str, key: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._key = key
        self._clock = clock
        self._quota = Quota(clock)
        timeout = httpx.Timeout(REPLY_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx.Client(timeout=timeout, headers={"User-Agent": "gpujob"})
        weakref.finalize(self, self._http.close)
        self._provider_time: tuple[datetime, float] | None = None

    def call(self, request: Request, allow: Collection[int] = ()) -> Reply:
        """The reply, where it is a success or its status is in ``allow``.

        Raises Transient for what may pass, Lost where a pod may have been rented though no good reply came, and
        NoCapacity, Rejected or AuthError for a refusal.
        """
        key = self._key()
        self._quota.take(urgent=request.urgent)
        reply = self._send(request, key)
        self._learn(reply)
        if 200 <= reply.status < 300 or reply.status in allow:
            return reply
        raise problem(request, _without(key, reply))

    def read(self, request: Request, parse: Callable[[Any], T]) -> T:
        """What ``parse`` makes of the reply's JSON; a reply out of contract is Transient, or Lost after renting."""
        reply = self.call(request)
        return understood(request, lambda: parse(reply.json()))

    def ask(self, request: Request, parse: Callable[[Mapping[str, Any]], T]) -> T:
        """What ``parse`` makes of the data that a GraphQL call gives."""
        reply = self.call(request)
        return understood(request, lambda: parse(read_graphql(request, reply)))

    def now(self) -> datetime | None:
        """The provider's clock, carried on by ours that nobody can set; None before the first reply."""
        if self._provider_time is None:
            return None
        date, seen = self._provider_time
        return date + timedelta(seconds=self._clock() - seen)

    def _learn(self, reply: Reply) -> None:
        self._quota.learn(reply.headers, reply.retry_after)
        if date := reply.date:
            self._provider_time = (date, self._clock())

    def _send(self, request: Request, key: str) -> Reply:
        try:
            reply = self._http.request(
                request.method,
                self._api + request.path,
                params=dict(request.query) or None,
                json=dict(request.body) if request.body is not None else None,
                headers={"Authorization": f"Bearer {key}"},
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Transient(f"{request.doing}: RunPod cannot be reached: {error}") from error
        except httpx.TransportError as error:
            kind = Lost if request.rents else Transient
            raise kind(f"{request.doing}: the connection to RunPod broke off: {_words(error)}") from error
        return Reply(reply.status_code, {name.lower(): value for name, value in reply.headers.items()}, reply.content)


def understood(request: Request, read: Callable[[], T]) -> T:
    """What ``read`` gives. A reply that is not as the contract says fails the call, never the program."""
    try:
        return read()
    except (Malformed, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        words = f"{request.doing}: RunPod's reply makes no sense: {error}"
        raise (Lost if request.rents else Transient)(words) from error


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _without(key: str, reply: Reply) -> Reply:
    """``reply`` without the key, should the provider have repeated it: refusals are shown and recorded."""
    return replace(reply, body=reply.body.replace(key.encode(), b"***"))
