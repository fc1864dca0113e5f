"""What AWS says of prices, quotas, zones and images: read, and kept for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backends.aws import catalog, requests
from backends.aws.replies import (
    newest,
    read_image,
    read_on_demand,
    read_spot,
    read_subnets,
    read_zones,
)
from backends.aws.settings import Settings
from backends.aws.tables import types
from backends.base import BackendError, NoCapacity, Offer, Rejected
from backends.recent import Readings

if TYPE_CHECKING:
    from backends.aws.client import Client

READING_SECONDS = 600.0
"""So long prices and quotas are good for planning; whether something is free only asking for it shows."""


class Market:
    """One account's readings, by region, shared by the jobs of one process."""

    def __init__(self, settings: Settings, client: Callable[[], Client]) -> None:
        self._settings = settings
        self._client = client
        self._kept = Readings(READING_SECONDS, time.monotonic)

    def offers(self) -> list[Offer]:
        """What can be asked for in the regions that the settings name."""
        today = datetime.now(UTC).date().isoformat()
        return [
            offer
            for region in self._settings.regions
            for offer in catalog.live_offers(region, self._reading(region), self._settings, today)
        ]

    def zones(self, target: catalog.Target, most_micros: int, avoid: frozenset[str]) -> list[str]:
        """The zones to ask for it, in order. Raises NoCapacity where there is none to ask."""
        region, type_ = target.region, target.type.name
        having = self._kept.get(
            ("zones", region, type_), lambda: self._ask(requests.zones_of(region, type_), read_zones)
        )
        spot = self._reading(region).spot if target.spot else {}
        found = catalog.zones_to_ask(having & set(self.subnets(region)), spot, target, most_micros, avoid)
        if not found:
            why = "at what was offered, or outside places to avoid" if having else "at all"
            raise NoCapacity(f"no zone of {region} has {type_} {why}")
        return found

    def subnets(self, region: str) -> dict[str, tuple[str, str]]:
        """Subnet and VPC by zone, of the region's default VPC. Raises Rejected where it has none."""
        asking = requests.default_subnets(region)
        found: dict[str, tuple[str, str]] = self._kept.get(("subnets", region), lambda: self._ask(asking, read_subnets))
        if not found:
            raise Rejected(
                f"{region} has no default VPC, which instances would be put in",
                advice=f"Make it: aws ec2 create-default-vpc --region {region}",
            )
        return found

    def image(self, region: str) -> tuple[str, str, int]:
        """The AMI to start from, its root device, and the least GB of its volume."""
        return self._kept.get(("image", region), lambda: self._read_image(region))

    def _read_image(self, region: str) -> tuple[str, str, int]:
        ami = self._settings.ami or requests.AMI_PARAMETER
        if ami.startswith("/"):
            ami = self._ask(requests.ami_parameter(region, ami), lambda reply: str(reply["Parameter"]["Value"]))
        return (ami, *self._ask(requests.get_image(region, ami), read_image))

    def _reading(self, region: str) -> catalog.Reading:
        return self._kept.get(("reading", region), lambda: self._read(region))

    def _read(self, region: str) -> catalog.Reading:
        """What the credentials may see: each part of it is left out where they may not."""
        on_demand: dict[str, int] = {}
        spot: dict[tuple[str, str], int] = {}
        client = self._client()
        with suppress(BackendError):
            for page in client.pages(lambda page: requests.on_demand_prices(region, page), read_on_demand):
                on_demand |= page
        if self._settings.spot:
            now, wanted = datetime.now(UTC).isoformat(), sorted(types())
            with suppress(BackendError):
                spot = newest(client.pages(lambda page: requests.spot_prices(region, wanted, now, page), read_spot))
        return catalog.Reading(on_demand, spot, self._quotas(region))

    def _quotas(self, region: str) -> dict[str, int]:
        kinds = {False, self._settings.spot}
        found = {}
        for code in sorted({requests.quota_code(name, spot=spot) for name in types() for spot in kinds}):
            with suppress(BackendError):
                found[code] = self._ask(requests.quota(region, code), lambda reply: int(reply["Quota"]["Value"]))
        return found

    def _ask(self, ask: requests.Ask, parse: Callable[[Any], Any]) -> Any:
        return self._client().read(ask, parse)
