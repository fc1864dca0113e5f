"""Our security group, one a region: it admits SSH from this machine's address and from nowhere else.

It is made with the first instance and deleted with the last. Groups that do not carry this home's word are never
touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backends.aws import requests
from backends.aws.marks import OWNER
from backends.aws.replies import IN_USE, NOT_FOUND, THERE_ALREADY, read_group_networks
from backends.aws.settings import Settings
from backends.base import Transient
from backends.failpoints import failpoint
from backends.rented.own_address import OwnNetwork

if TYPE_CHECKING:
    from backends.aws.client import Client


class Network:
    """The groups of one home; ``word`` gives its word."""

    def __init__(self, settings: Settings, client: Callable[[], Client], word: Callable[[], str]) -> None:
        self._settings = settings
        self._client = client
        self._word = word
        self._own = OwnNetwork("aws.ssh_from", settings.ssh_from)
        self._admitted: dict[str, str] = {}

    def group(self, region: str, vpc: str) -> str:
        """The group's id; it is made where there is none, and admits this machine when this returns."""
        found = self._find(region)
        if found is None:
            name = f"gpujob-{self._word()[:12]}"
            tags = {"Name": name, OWNER: self._word()}
            self._client().call_unless(requests.create_group(region, vpc, name, tags), THERE_ALREADY)
            failpoint("aws.create:grouped")
            found = self._find(region)
        if found is None:
            raise Transient(f"the security group just made in {region} is not listed yet")
        self._admit_us(region, found)
        return str(found["GroupId"])

    def keep_open(self, region: str) -> None:
        """This machine may have another address by now: let that one in, and the old one no more."""
        if self._admitted.get(region) != self._own.get() and (found := self._find(region)):
            self._admit_us(region, found)

    def drop(self, region: str) -> bool:
        """Delete the group; False while something still uses it. To be called where no instance of ours is left."""
        found = self._find(region)
        self._admitted.pop(region, None)
        if found is None:
            return True
        self._client().call_unless(requests.delete_group(region, str(found["GroupId"])), IN_USE | NOT_FOUND)
        return self._find(region) is None

    def _find(self, region: str) -> dict[str, Any] | None:
        groups = self._client().read(
            requests.list_groups(region, OWNER, self._word()), lambda reply: list(reply["SecurityGroups"])
        )
        return min(groups, key=lambda group: str(group["GroupId"]), default=None)

    def _admit_us(self, region: str, group: dict[str, Any]) -> None:
        wanted, there, id_ = self._own.get(), read_group_networks(group), str(group["GroupId"])
        port = self._settings.ssh_port
        if wanted not in there:
            self._client().call_unless(requests.admit(region, id_, [wanted], port), THERE_ALREADY | NOT_FOUND)
        if old := sorted(there - {wanted}):
            self._client().call_unless(requests.shut_out(region, id_, old, port), NOT_FOUND)
        self._admitted[region] = wanted
