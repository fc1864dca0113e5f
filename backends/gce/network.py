"""Our two firewall rules: SSH from this machine's address is let in to our machines, and nothing else is.

They are for the network tag of this home, go before whatever the network has of its own (``default-allow-ssh`` admits
the whole internet), are made with the first instance and deleted with the last. Rules that do not carry this home's
word are never touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from backends.base import Rejected, Transient
from backends.failpoints import failpoint
from backends.gce import requests
from backends.gce.marks import tag_of
from backends.gce.replies import Rule, ThereAlready, read_operation, read_rule
from backends.gce.requests import Ask
from backends.gce.settings import Settings
from backends.rented.own_address import OwnNetwork

if TYPE_CHECKING:
    from backends.gce.client import Client


class Network:
    """The rules of one home; ``word`` gives its word."""

    def __init__(self, settings: Settings, client: Callable[[], Client], word: Callable[[], str]) -> None:
        self._settings = settings
        self._client = client
        self._word = word
        self._own = OwnNetwork("gce.ssh_from", settings.ssh_from)
        self._admitted = ""

    def open(self) -> str:
        """The network tag for our machines; the rules for it are in force when this returns."""
        wanted, network = self._own.get(), self._settings.network
        shut, let_in = self._names()
        about = (self._description(), tag_of(self._word()))
        if self._find(shut) is None:
            self._make(requests.refuse_all(self._client().project, network, shut, *about))
            failpoint("gce.create:shut")
        rule = self._find(let_in)
        if rule is None:
            port = self._settings.ssh_port
            self._make(requests.admit(self._client().project, network, let_in, *about, wanted, port))
        elif rule.sources != (wanted,):
            self._make(requests.admit_instead(self._client().project, let_in, [wanted]))
        self._admitted = wanted
        return about[1]

    def keep_open(self) -> None:
        """This machine may have another address by now: let that one in, and the old one no more. The rules that are
        gone are made again.
        """
        if self._admitted != self._own.get():
            self.open()

    def drop(self) -> None:
        """Delete the rules. To be called where no instance of ours is left. What is let in goes first."""
        for name in reversed(self._names()):
            if self._find(name) is not None:
                self._client().call_or_none(requests.delete_rule(self._client().project, name))
        self.look_again()

    def look_again(self) -> None:
        """The rules may be gone: whoever reaches a machine next makes sure of them."""
        self._admitted = ""

    def _names(self) -> tuple[str, str]:
        tag = tag_of(self._word())
        return f"{tag}-shut", f"{tag}-ssh"

    def _description(self) -> str:
        return f"gpujob {self._word()}"

    def _find(self, name: str) -> Rule | None:
        """A rule of ours. Raises Rejected where somebody else's has that name."""
        rule = self._client().read_or_none(requests.get_rule(self._client().project, name), read_rule)
        if rule is not None and rule.description != self._description():
            raise Rejected(f"the firewall rule {name} is not this home's, and stands where ours would be")
        return rule

    def _make(self, ask: Ask) -> None:
        """Do it, and see that it is done. Raises Transient where it is not yet."""
        client = self._client()
        try:
            operation = client.read(ask, read_operation)
        except ThereAlready:  # another worker was faster
            return
        if not operation.done:
            waiting = requests.wait_everywhere(client.project, operation.name, ask.doing)
            operation = client.read(waiting, read_operation)
        if operation.errors:
            raise Rejected(f"{ask.doing}: Google could not do it: {operation.errors}")
        if not operation.done:
            raise Transient(f"{ask.doing}: Google is not done with it yet")
