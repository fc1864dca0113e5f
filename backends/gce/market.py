"""What Google says of quotas, zones and images: read, and kept for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.base import BackendError, NoCapacity, Offer
from backends.gce import catalog, requests
from backends.gce.replies import last_part, read_image, read_quotas, read_scattered
from backends.gce.settings import Settings
from backends.recent import Readings

if TYPE_CHECKING:
    from backends.gce.client import Client

READING_SECONDS = 600.0
"""So long quotas, zones and images are good for planning; whether something is free only asking for it shows."""


class Market:
    """One project's readings, shared by the jobs of one process."""

    def __init__(self, settings: Settings, client: Callable[[], Client]) -> None:
        self._settings = settings
        self._client = client
        self._kept = Readings(READING_SECONDS, time.monotonic)

    def offers(self) -> list[Offer]:
        """What can be asked for in the regions that the settings name. Raises AuthError, Transient."""
        quotas: catalog.Quotas = self._kept.get(("quotas",), self._read_quotas)
        return list(catalog.offers(self._settings, quotas))

    def zones(self, target: catalog.Target, avoid: frozenset[str]) -> list[str]:
        """The zones to ask for it, in order. Raises NoCapacity where there is none to ask."""
        type_ = target.type
        having: set[str] = self._kept.get(("zones", type_.name), lambda: self._read_zones(type_.name))
        found = catalog.zones_to_ask(having, type_.region, avoid)
        if not found:
            why = "outside places to avoid" if having else "at all"
            raise NoCapacity(f"no zone of {type_.region} has {type_.name} {why}")
        return found

    def image(self) -> tuple[str, int]:
        """The image to start from, and the least GiB of its disk."""
        project, _, family = self._settings.image.partition("/")
        asking = requests.get_image(project, family)
        return self._kept.get(("image",), lambda: self._client().read(asking, read_image))

    def _read_quotas(self) -> catalog.Quotas:
        client = self._client()
        everywhere = client.read(requests.get_project(client.project), read_quotas)
        regions = {}
        for region in self._settings.regions:
            with suppress(BackendError):  # what these credentials may not see is not known
                regions[region] = client.read(requests.get_region(client.project, region), read_quotas)
        return catalog.Quotas(client.project, everywhere, regions)

    def _read_zones(self, type_: str) -> set[str]:
        client = self._client()
        pages = client.pages(
            lambda page: requests.list_types(client.project, type_, page),
            lambda reply: [last_part(each["zone"]) for each in read_scattered(reply, "machineTypes")],
        )
        return {zone for page in pages for zone in page}
