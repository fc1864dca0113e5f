"""What RunPod has in stock: read, kept for a minute, and turned into offers and wishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from backends.base import LeaseRequest, NoCapacity, Offer, Rejected
from backends.recent import Recent
from backends.runpod import catalog
from backends.runpod.requests import Wish, cpu_catalog, gpu_catalog
from backends.runpod.settings import Settings
from backends.runpod.wishes import wish_for

if TYPE_CHECKING:
    from backends.runpod.client import Client

CATALOG_SECONDS = 60.0
"""So long a catalogue is good for planning; whether something is free now only renting it shows."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One reading for one number of GPUs. ``bids`` are of spot pods, by model id and cloud."""

    stocks: tuple[catalog.Stock, ...]
    flavours: tuple[catalog.Flavour, ...]
    bids: Mapping[tuple[str, str], int]


class Market:
    """The live catalogue, shared by the jobs of one process."""

    def __init__(self, settings: Settings, client: Callable[[], Client]) -> None:
        self._settings = settings
        self._client = client
        self._lock = Lock()
        self._readings: dict[int, Recent[Catalogue]] = {}

    def offers(self, count: int) -> list[Offer]:
        """What is in stock, with one GPU and with ``count``."""
        found, as_of = self._reading(count), datetime.now(UTC).date().isoformat()
        return [
            *catalog.gpu_offers(found.stocks, count, self._settings, as_of),
            *catalog.spot_offers(found.stocks, found.bids, count, self._settings, as_of),
            *catalog.cpu_offers(found.flavours, self._settings, as_of),
        ]

    def wish(self, request: LeaseRequest, target: catalog.Target, env: Mapping[str, str]) -> Wish:
        """The pod to ask for. Raises NoCapacity where the catalogue no longer has it, Rejected for a spot pod that the
        settings no longer allow.
        """
        if target.spot and not self._settings.spot:
            raise Rejected(
                "spot pods are not allowed by the settings", advice="To allow them: gpujob config set runpod.spot yes"
            )
        stock = self._stock(target) if target.count else None
        return wish_for(request, target, stock, self._settings, env)

    def _stock(self, target: catalog.Target) -> catalog.Stock:
        for stock in self._reading(target.count).stocks:
            if stock.cloud == target.cloud and catalog.short_name(stock.model.id) == target.short:
                return stock
        raise NoCapacity(f"RunPod's {target.cloud} cloud no longer lists {target.short}")

    def _reading(self, count: int) -> Catalogue:
        with self._lock:
            reading = self._readings.setdefault(count, Recent(CATALOG_SECONDS, time.monotonic))
        return reading.get(lambda: self._read(count))

    def _read(self, count: int) -> Catalogue:
        settings, client = self._settings, self._client()
        stocks: list[catalog.Stock] = []
        for cloud in settings.clouds:
            request = gpu_catalog(cloud.upper(), count, settings.min_cuda)
            stocks += client.read(request, partial(catalog.read_stock, cloud=cloud))
        has_cpu_pods = "secure" in settings.clouds and settings.client == "rest"
        flavours = client.read(cpu_catalog(), catalog.read_flavours) if has_cpu_pods else []
        bids: Mapping[tuple[str, str], int] = {}
        if settings.spot:
            from backends.runpod.spot import least_bids

            bids = least_bids(client, count)
        return Catalogue(tuple(stocks), tuple(flavours), bids)
