"""Asks RunPod: one call, one request. Never waits for a rate limit and never sends twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, TypeVar

from backends.rented.calls import Reply, Request
from backends.rented.http import Http
from backends.runpod.quota import Quota
from backends.runpod.replies import problem, read_graphql

T = TypeVar("T")


class Client:
    """A connection to one API address, shared by threads. ``key`` is asked for the API key at every call."""

    def __init__(self, api: str, key: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._quota = Quota(clock)
        self._http = Http(api, "RunPod", clock)

    def call(self, request: Request, allow: Collection[int] = ()) -> Reply:
        """The reply, where it is a success or its status is in ``allow``.

        Raises Transient for what may pass, Lost where a pod may have been rented though no good reply came, and
        NoCapacity, Rejected or AuthError for a refusal.
        """
        key = self._key()
        self._quota.take(urgent=request.urgent)
        reply = self._http.send(request, key)
        self._quota.learn(reply.headers, reply.retry_after)
        if 200 <= reply.status < 300 or reply.status in allow:
            return reply
        raise problem(request, reply)

    def read(self, request: Request, parse: Callable[[Any], T]) -> T:
        """What ``parse`` makes of the reply's JSON; a reply out of contract is Transient, or Lost after renting."""
        reply = self.call(request)
        return self._http.understood(request, lambda: parse(reply.json()))

    def find(self, request: Request, parse: Callable[[Any], T]) -> T | None:
        """The same; None where what was asked for does not exist."""
        reply = self.call(request, allow=(404,))
        return None if reply.status == 404 else self._http.understood(request, lambda: parse(reply.json()))

    def ask(self, request: Request, parse: Callable[[Mapping[str, Any]], T]) -> T:
        """What ``parse`` makes of the data that a GraphQL call gives."""
        reply = self.call(request)
        return self._http.understood(request, lambda: parse(read_graphql(request, reply)))

    def now(self) -> datetime | None:
        """The provider's clock; None before the first reply."""
        return self._http.now()
