"""Which prices are in force: the bundled table, and over it the user's own, provider by provider."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from orchestrator.catalog.gpus import bundled_gpus
from orchestrator.catalog.offers import BUNDLED_OFFERS, PricedOffer, load_offers, parse_offers

_NAME = re.compile(r"offers-(\d{4}-\d{2}-\d{2})\.csv")


@dataclass(frozen=True, slots=True)
class Catalog:
    """Prices, and the tables they are from; ``refreshed`` is the day of the user's table, None without one."""

    offers: tuple[PricedOffer, ...]
    refreshed: date | None
    path: Path


def load_catalog(folder: Path) -> Catalog:
    """The prices in force. In ``folder`` lie the user's tables; the newest counts. Raises CatalogError."""
    bundled = load_offers(BUNDLED_OFFERS, bundled_gpus())
    newest = _newest(folder)
    if newest is None:
        return Catalog(tuple(bundled), None, BUNDLED_OFFERS)
    day, path = newest
    own = load_offers(path, bundled_gpus())
    replaced = {offer.provider for offer in own}
    kept = (offer for offer in bundled if offer.provider not in replaced)
    return Catalog((*own, *kept), day, path)


def install(folder: Path, name: str, content: bytes, today: date) -> tuple[Path, int]:
    """Put a table in force as that of ``today``, if every row is right: its path and number of rows.

    Raises CatalogError, which calls the table ``name``; then the prices in force stay as they are.
    """
    count = len(parse_offers(name, content, bundled_gpus()))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft, path = folder / "offers.draft", folder / f"offers-{today.isoformat()}.csv"
    draft.write_bytes(content)
    draft.replace(path)
    return path, count


def _newest(folder: Path) -> tuple[date, Path] | None:
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("offers-*.csv"))
    return max(((date.fromisoformat(match[1]), path) for match, path in found if match), default=None)


@dataclass(frozen=True, slots=True)
class Age:
    """How old one provider's prices are."""

    provider: str
    rows: int
    oldest: date
    newest: date
    stale: int


def ages(offers: Iterable[PricedOffer], today: date) -> list[Age]:
    """The age of each provider's prices, by provider."""
    by_provider: dict[str, list[PricedOffer]] = {}
    for offer in offers:
        by_provider.setdefault(offer.provider, []).append(offer)
    return [
        Age(
            provider,
            len(rows),
            min(row.as_of for row in rows),
            max(row.as_of for row in rows),
            sum(row.stale(today) for row in rows),
        )
        for provider, rows in sorted(by_provider.items())
    ]
