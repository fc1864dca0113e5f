"""Sends requests to Lambda: one call, one request, as many a second as Lambda takes. Never sends twice."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, TypeVar

import httpx

from backends.base import Lost, Transient
from gpujob_lambda.replies import Malformed, Reply, is_not_there, problem
from gpujob_lambda.requests import Request

T = TypeVar("T")

CONNECT_SECONDS, REPLY_SECONDS = 10.0, 30.0


class Client:
    """A connection to one API address, shared by threads. ``key`` is asked for the API key at every call; two calls are
    ``pace`` seconds apart. Taking turns is all that it waits for: what Lambda asks to wait is the caller's.
    """

    def __init__(self, api: str, key: Callable[[], str], pace: float) -> None:
        self._api = api
        self._key = key
        self._pace = pace
        self._turn = Lock()
        self._last = float("-inf")
        timeout = httpx.Timeout(REPLY_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx.Client(timeout=timeout, headers={"User-Agent": "gpujob"})
        weakref.finalize(self, self._http.close)
        self._provider_time: tuple[datetime, float] | None = None

    def ask(self, request: Request, parse: Callable[[Any], T]) -> T:
        """What ``parse`` makes of the reply's data.

        Raises Transient for what may pass, Lost where something may have been rented though no good reply came, and
        NoCapacity, Rejected or AuthError for a refusal.
        """
        found = self.find(request, parse)
        if found is None:
            raise Transient(f"{request.doing}: Lambda does not know this")
        return found

    def find(self, request: Request, parse: Callable[[Any], T]) -> T | None:
        """The same; None where what was asked for does not exist."""
        key = self._key()
        self._take_turn()
        reply = self._send(request, key)
        if date := reply.date:
            self._provider_time = (date, time.monotonic())
        if not 200 <= reply.status < 300:
            if not request.rents and is_not_there(reply):
                return None
            raise problem(request, replace(reply, body=reply.body.replace(key.encode(), b"***")))
        try:
            return parse(reply.data)
        except (Malformed, LookupError, TypeError, ValueError, AttributeError) as error:
            words = f"{request.doing}: Lambda's reply makes no sense: {error}"
            raise (Lost if request.rents else Transient)(words) from error

    def now(self) -> datetime | None:
        """The provider's clock, carried on by ours that nobody can set; None before the first reply."""
        if self._provider_time is None:
            return None
        date, seen = self._provider_time
        return date + timedelta(seconds=time.monotonic() - seen)

    def _take_turn(self) -> None:
        with self._turn:
            time.sleep(max(0.0, self._last + self._pace - time.monotonic()))
            self._last = time.monotonic()

    def _send(self, request: Request, key: str) -> Reply:
        try:
            reply = self._http.request(
                request.method,
                self._api + request.path,
                json=dict(request.body) if request.body is not None else None,
                headers={"Authorization": f"Bearer {key}"},
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Transient(f"{request.doing}: Lambda cannot be reached: {error}") from error
        except httpx.TransportError as error:
            words = f"{request.doing}: the connection to Lambda broke off: {str(error) or type(error).__name__}"
            raise (Lost if request.rents else Transient)(words) from error
        return Reply(reply.status_code, {name.lower(): value for name, value in reply.headers.items()}, reply.content)
