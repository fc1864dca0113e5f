"""Requests over HTTP and what came back, as values. Pure: nothing here sends anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from backends.base import Lost, Transient


class Malformed(Exception):
    """A reply that is not what the contract says."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call. ``rents`` says that it may have rented something though its reply was lost; ``urgent`` that it may use
    what is kept of the rate limit for giving machines back.
    """

    method: str
    path: str
    doing: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    rents: bool = False
    urgent: bool = False


def in_doubt(request: Request, words: str) -> Lost | Transient:
    """The error of a call that may have worked though no good reply came."""
    return Lost(words) if request.rents else Transient(words)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it came. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, with numbers that have a point as exact decimals. Raises Malformed."""
        try:
            return json.loads(self.body, parse_float=Decimal)
        except (ValueError, RecursionError):
            raise Malformed(f"status {self.status} with a body that is not JSON") from None

    @property
    def date(self) -> datetime | None:
        """The provider's clock when it replied."""
        try:
            return parsedate_to_datetime(self.headers["date"]).astimezone(UTC)
        except (KeyError, ValueError):
            return None

    @property
    def retry_after(self) -> float | None:
        """Seconds that the provider asks to wait."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isdecimal() else None
