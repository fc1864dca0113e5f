"""Instances, their disks and what was done to them, as Google has them: only those of this home."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.gce import marks, requests
from backends.gce.replies import (
    Absent,
    Busy,
    Disk,
    Instance,
    Operation,
    read_disk,
    read_instance,
    read_operations,
    read_scattered,
)

if TYPE_CHECKING:
    from backends.gce.client import Client


class Instances:
    """What carries the word of one home; ``word`` gives it."""

    def __init__(self, client: Callable[[], Client], word: Callable[[], str]) -> None:
        self._client = client
        self._word = word

    def all(self) -> list[Instance]:
        """Every instance of ours, in all zones."""
        client, word = self._client(), self._word()
        pages = client.pages(
            lambda page: requests.list_instances(client.project, marks.OWNER, word, page),
            lambda reply: [read_instance(each) for each in read_scattered(reply, "instances")],
        )
        return marks.ours((each for page in pages for each in page), word)

    def get(self, zone: str, name: str) -> Instance | None:
        """An instance of ours as it is now. One of that name that is not ours counts for nothing."""
        client = self._client()
        found = client.read_or_none(requests.get_instance(client.project, zone, name), read_instance)
        return found if found and marks.is_ours(found, self._word()) else None

    def delete(self, zone: str, name: str) -> None:
        """Have Google delete it; harmless where it is about to."""
        client = self._client()
        with suppress(Absent, Busy):
            client.call(requests.delete_instance(client.project, zone, name))

    def asked_as(self, zone: str, request_id: str) -> Operation | None:
        """What a request started; None where Google has not heard it (yet)."""
        client = self._client()
        found = client.read(requests.operations_asked_as(client.project, zone, request_id), read_operations)
        return next((each for each in found if each.request_id == request_id), None)

    def done_to(self, zone: str, number: str) -> list[Operation]:
        """What was done to an instance, the newest last."""
        client = self._client()
        return client.read(requests.operations_on(client.project, zone, number), read_operations)

    def delete_disk(self, zone: str, name: str) -> bool:
        """Delete the disk that has not gone with its instance; False while it is still there."""
        client = self._client()
        ask = requests.get_disk(client.project, zone, name)
        for _ in range(2):
            disk = client.read_or_none(ask, read_disk)
            if disk is None or not self._is_ours(disk):
                return True
            with suppress(Absent, Busy):
                client.call(requests.delete_disk(client.project, zone, name))
        return client.call_or_none(ask) is None

    def delete_orphans(self, asked: Callable[[], Iterable[str]]) -> None:
        """Delete our disks that no instance uses; not those of what may be about to come, as ``asked`` tells after they
        were listed.
        """
        disks = list(self._disks())
        coming = {marks.name_of(key) for key in asked()}
        for disk in disks:
            if not disk.used and disk.name not in coming:
                self.delete_disk(disk.zone, disk.name)

    def _disks(self) -> Iterator[Disk]:
        client, word = self._client(), self._word()
        pages = client.pages(
            lambda page: requests.list_disks(client.project, marks.OWNER, word, page),
            lambda reply: [read_disk(each) for each in read_scattered(reply, "disks")],
        )
        return (disk for page in pages for disk in page if self._is_ours(disk))

    def _is_ours(self, disk: Disk) -> bool:
        return bool(self._word()) and disk.labels.get(marks.OWNER) == self._word()
