"""What a check has to be able to do to a provider: the one class that an author writes for the suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from backends.base import Backend, Need


class CannotMake(Exception):
    """A provider has nothing that could go wrong in that way."""


class Provider(Protocol):
    """An emulated provider and this side's backend in front of it, fresh for each check.

    A fault is for the next machine that is asked for; a provider may keep it for all further ones as well. A fault that
    cannot be made raises CannotMake: then the check that needs it has to stand in ``unfit``.
    """

    name: str
    need: Need
    """What is asked for: an offer that meets it is rented, the cheapest one."""
    unfit: Mapping[str, str]
    """Names of checks that do not fit this provider, each with the reason in words."""
    ends_alone: str
    """Who ends a machine that nobody watches, in words; empty where nobody does, and the user has to accept that."""
    least_seconds: float
    """The shortest lease that leaves a machine time to be born: after so long one that nobody watches must be over."""
    secrets: Sequence[str]
    """Values that nobody but the provider may see."""

    def backend(self, home: str = "home") -> Backend:
        """The backend of a home, opened anew as another process would: it knows what lies on disk, no more."""

    def unready(self) -> Backend:
        """The backend of a home in which nothing is set up: no key, no settings, no consent."""

    def by_default(self) -> Backend:
        """The backend of a home that has a key, with every setting as it is without being set."""

    def machines(self) -> Sequence[str]:
        """Ids of all machines that the provider has, whoever made them: what could still cost something."""

    def leftovers(self) -> Sequence[str]:
        """Whatever else there is of ours at the provider (keys, disks, rules), in words."""

    def stranger(self, key: str) -> str:
        """A machine as somebody else might have made it, called what ours for ``key`` would be called; its id."""

    def vanish(self, machine: str) -> None:
        """The machine is gone, without our doing."""

    def lose_reply(self) -> None:
        """The next machine is made, and the reply that says so is lost."""

    def lag(self) -> None:
        """Lists show the next machine a second later than it is there."""

    def no_capacity(self) -> None:
        """There is none to be had."""

    def never_reachable(self) -> None:
        """The next machine is said to run and never answers."""

    def raise_price(self) -> None:
        """The next machine costs more than it was offered for."""

    def seen(self) -> str:
        """All that the provider was sent to make machines, but for the headers that carry its key."""
