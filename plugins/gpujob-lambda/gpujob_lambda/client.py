"""Asks Lambda: one call, one request, as many a second as Lambda takes. Never sends twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from threading import Lock
from typing import Any, TypeVar

from backends.base import Transient
from backends.rented.calls import Request
from backends.rented.http import Http
from gpujob_lambda.replies import data_of, is_not_there, problem

T = TypeVar("T")


class Client:
    """A connection to one API address, shared by threads. ``key`` is asked for the API key at every call; two calls are
    ``pace`` seconds apart. Taking turns is all that it waits for: what Lambda asks to wait is the caller's.
    """

    def __init__(self, api: str, key: Callable[[], str], pace: float) -> None:
        self._key = key
        self._pace = pace
        self._turn = Lock()
        self._last = float("-inf")
        self._http = Http(api, "Lambda")

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
        reply = self._http.send(request, key)
        if 200 <= reply.status < 300:
            return self._http.understood(request, lambda: parse(data_of(reply)))
        if not request.rents and is_not_there(reply):
            return None
        raise problem(request, reply)

    def now(self) -> datetime | None:
        """The provider's clock; None before the first reply."""
        return self._http.now()

    def _take_turn(self) -> None:
        with self._turn:
            time.sleep(max(0.0, self._last + self._pace - time.monotonic()))
            self._last = time.monotonic()
