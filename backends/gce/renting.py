"""Asks one zone for one instance. Google's first answer says only that it has heard: what came of it is told later."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from backends.base import AuthError, BackendError, Lost, NoCapacity, Rejected, Transient
from backends.failpoints import failpoint
from backends.gce import requests
from backends.gce.asked import Asked
from backends.gce.instances import Instances
from backends.gce.replies import Instance, NoneInZone, Operation, ThereAlready, failure, read_operation

if TYPE_CHECKING:
    from backends.gce.client import Client


class Renting:
    """For one home; ``now`` is Google's clock."""

    def __init__(
        self, client: Callable[[], Client], asked: Asked, there: Instances, now: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._asked = asked
        self._there = there
        self._now = now

    def rent(self, wish: requests.Wish, key: str) -> Instance:
        """Ask one zone. Its mark stays where one was made, or may have been."""
        self._asked.mark(key, wish.zone, int(self._now().timestamp()))
        ask = requests.insert_instance(self._client().project, wish)
        try:
            instance = self._made(ask, wish)
        except Lost:
            raise
        except BackendError:
            self._asked.forget(key, wish.zone)
            raise
        failpoint("gce.create:made")
        self._asked.heard(key, wish.zone)
        return instance

    def _made(self, ask: requests.Ask, wish: requests.Wish) -> Instance:
        """What came of asking. Once Google has taken the request no trouble says that there is no instance."""
        try:
            operation = self._client().read(ask, read_operation)
        except ThereAlready:  # by an earlier request, so long ago that its requestId is forgotten
            return self._ours_of_that_name(wish)
        failpoint("gce.create:asked")
        try:
            operation = self._waited_for(operation, wish.zone, ask.doing)
            why = failure(ask, wish.zone, operation) if operation.done else None
            if why is None:
                found = self._there.get(wish.zone, wish.name)
        except (Transient, AuthError, Rejected) as trouble:
            raise Lost(f"{ask.doing}: Google has taken the request, but then: {trouble}") from trouble
        if isinstance(why, ThereAlready):
            return self._ours_of_that_name(wish)
        if why is not None:
            raise why
        if not operation.done:
            raise Lost(f"{ask.doing}: Google is not done with it yet")
        if found is None:
            raise NoCapacity(f"the instance of this attempt in {wish.zone} was made and is over already")
        return found

    def _waited_for(self, operation: Operation, zone: str, doing: str) -> Operation:
        if operation.done:
            return operation
        waiting = requests.wait_in_zone(self._client().project, zone, operation.name, doing)
        return self._client().read(waiting, read_operation)

    def _ours_of_that_name(self, wish: requests.Wish) -> Instance:
        found = self._there.get(wish.zone, wish.name)
        if found is None:
            raise NoneInZone(f"{wish.zone} has an instance {wish.name} that is not this home's, where ours would be")
        return found
