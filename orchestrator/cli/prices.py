"""``gpujob offers`` and ``gpujob catalog``: the price table, how old it is, and a newer one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from backends.units import format_size, format_usd
from orchestrator.catalog.catalog import Catalog, ages, install, load_catalog
from orchestrator.catalog.fetching import fetch_table
from orchestrator.catalog.offers import STALE_DAYS, PricedOffer
from orchestrator.catalog.rows import CatalogError
from orchestrator.cli.screen import dim, good, say, say_json, table, warned
from orchestrator.config import Config
from orchestrator.home import Home
from orchestrator.planning.gpu_names import is_called

_MARK_WORDS = {
    "stale": f"stale: older than {STALE_DAYS} days",
    "partial": "partial: more than this price is billed",
    "unverified": "unverified: not read at the provider",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to list; None means anything. ``max_micros`` is per hour, ``min_vram_bytes`` per GPU."""

    gpu: str | None = None
    max_micros: int | None = None
    min_vram_bytes: int | None = None
    provider: str | None = None

    def allows(self, offer: PricedOffer) -> bool:
        """Whether ``offer`` is to be listed. A price on demand or spot that is low enough will do."""
        price = offer.micros_per_hour if offer.spot_micros_per_hour is None else offer.spot_micros_per_hour
        return (
            (self.gpu is None or is_called(offer.gpu, self.gpu))
            and (self.max_micros is None or price <= self.max_micros)
            and (self.min_vram_bytes is None or offer.vram_bytes >= self.min_vram_bytes)
            and (self.provider is None or self.provider in (offer.provider, offer.provider.partition(":")[0]))
        )


def show_offers(home: Home, wanted: Wanted, limit: int, *, as_json: bool) -> int:
    """List what the price table has of it, cheapest first; exit code 3 if that is nothing."""
    today = _today()
    found = sorted(filter(wanted.allows, load_catalog(home.catalog).offers), key=_by_price)
    if as_json:
        say_json([offer.to_json(today) for offer in found])
    elif found:
        say(_offers_text(found[:limit], len(found), today))
    else:
        say("No offer in the price table is like that. `gpujob offers` lists all; `gpujob catalog age` says how old.")
    return 0 if found else 3


def _by_price(offer: PricedOffer) -> tuple[int, str, str]:
    return offer.micros_per_hour, offer.provider, offer.instance


def _offers_text(offers: list[PricedOffer], count: int, today: date) -> str:
    rows = [_offer_row(offer, today) for offer in offers]
    headers = ("provider", "instance", "GPU", "n", "VRAM", "RAM", "vCPU", "$/h", "spot", "as of", "note")
    seen = {mark for offer in offers for mark in offer.marks(today)}
    lines = [table(headers, rows, right=headers[3:9], spare=("as of", "vCPU", "RAM", "instance"))]
    lines += [dim(words) for mark, words in _MARK_WORDS.items() if mark in seen]
    if count > len(offers):
        lines.append(
            dim(f"{count - len(offers)} more, dearer; --limit shows them, --gpu and the like narrow the list.")
        )
    return "\n".join(lines)


def _offer_row(offer: PricedOffer, today: date) -> tuple[str, ...]:
    spot = offer.spot_micros_per_hour
    return (
        offer.provider,
        offer.instance,
        offer.gpu,
        f"{offer.gpu_count:g}",
        format_size(offer.vram_bytes),
        format_size(offer.ram_bytes) if offer.ram_bytes else "?",
        str(offer.cpus or "?"),
        format_usd(offer.micros_per_hour),
        format_usd(spot) if spot is not None else "",
        offer.dated.split(" ")[0],
        ", ".join(offer.marks(today)),
    )


def show_age(home: Home, *, as_json: bool) -> int:
    """Which table is in force and how old each provider's prices are."""
    today, catalog = _today(), load_catalog(home.catalog)
    found = ages(catalog.offers, today)
    if as_json:
        say_json(
            {
                "path": str(catalog.path),
                "refreshed": catalog.refreshed.isoformat() if catalog.refreshed else None,
                "offers": len(catalog.offers),
                "providers": [
                    {
                        "provider": age.provider,
                        "offers": age.rows,
                        "oldest": age.oldest.isoformat(),
                        "newest": age.newest.isoformat(),
                        "stale": age.stale,
                    }
                    for age in found
                ],
            }
        )
        return 0
    say(_which(catalog))
    rows = [(a.provider, str(a.rows), str(a.oldest), str(a.newest), str(a.stale or "")) for a in found]
    say(table(("provider", "offers", "oldest", "newest", "stale"), rows, right={"offers", "stale"}))
    if any(age.stale for age in found):
        say(f"{warned('!')} Stale: older than {STALE_DAYS} days. `gpujob catalog refresh FILE` brings newer prices.")
    return 0


def _which(catalog: Catalog) -> str:
    if catalog.refreshed is None:
        return f"The {len(catalog.offers)} prices that came with gpujob."
    return f"{len(catalog.offers)} prices; yours of {catalog.refreshed} ({catalog.path}) replace the bundled ones."


def refresh(home: Home, source: str | None) -> int:
    """Put a newer table in force: a CSV file, a URL, or what the setting catalog.url names. Raises CatalogError."""
    source = source or Config(home.config).get("catalog.url")
    if not source:
        raise CatalogError(
            "Where from? Name a CSV file or a URL, or set one for good: gpujob config set catalog.url https://..."
        )
    content = fetch_table(source) if "://" in source else _read(Path(source))
    path, count = install(home.catalog, source, content, _today())
    say(f"{good('✓')} {count} prices from {source} are in force ({path}).")
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}. The prices in force stay as they are.") from None


def _today() -> date:
    return datetime.now(UTC).date()
