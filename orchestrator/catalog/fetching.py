"""Fetching a price table from where its keeper publishes it."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from orchestrator.catalog.rows import CatalogError

MOST_BYTES = 50_000_000
_TIMEOUT_SECONDS = 20.0
_THIS_COMPUTER = ("127.0.0.1", "::1", "localhost")


def fetch_table(url: str) -> bytes:
    """The table at ``url``. Raises CatalogError; plain http is refused, since prices decide what is rented."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _THIS_COMPUTER):
        raise CatalogError(f"{url}: only https is fetched. Correct catalog.url, or give a CSV file.")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as reply:  # noqa: S310  the scheme is checked above
            table: bytes = reply.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise CatalogError(f"{url}: the server says {error.code} {error.reason}. {_STILL}") from None
    except (OSError, HTTPException) as error:
        raise CatalogError(f"{url} cannot be reached: {error}. {_STILL}") from None
    if len(table) > MOST_BYTES:
        raise CatalogError(f"{url}: more than {MOST_BYTES // 10**6} MB, which is no price table. {_STILL}")
    return table


_STILL = "The prices in force stay as they are; `gpujob catalog refresh FILE` takes a CSV file instead."
