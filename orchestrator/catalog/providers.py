"""First guesses about providers: how soon a machine starts, whether it holds, how fast it downloads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestrator.catalog.rows import Row, read_rows

MB = 1_000_000
OTHER = "other"
"""The row for providers that have none of their own."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What to expect until something is measured. Seconds, bytes per second; ``holds`` is a chance.

    ``start_sigma`` is the spread of the logarithm of ``start_seconds``: from asking for the machine until it can be
    reached, without a container image of the job's own. ``image_bytes_per_second`` is for pulling and unpacking one.
    """

    name: str
    start_seconds: float
    start_sigma: float
    holds: float
    bytes_per_second: float
    image_bytes_per_second: float
    source: str
    date: str


def provider(name: str) -> Provider:
    """The facts about the provider behind a backend; those of any other where it has no row."""
    known = bundled_providers()
    return known.get(name) or known[OTHER]


@cache
def bundled_providers() -> dict[str, Provider]:
    """Every row, by name."""
    columns = (
        "provider", "start_s", "start_sigma", "holds", "download_mb_s", "image_mb_s", "source", "date",
    )  # fmt: skip
    found = read_rows(Path(__file__).with_name("providers.csv"), columns, _provider)
    return {each.name: each for each in found}


def _provider(row: Row) -> Provider:
    if (holds := row.needed_number("holds")) > 1:
        raise ValueError(f"holds is {holds:g}; a chance is at most 1")
    return Provider(
        row.needed("provider"),
        row.needed_number("start_s"),
        row.needed_number("start_sigma"),
        holds,
        row.needed_number("download_mb_s") * MB,
        row.needed_number("image_mb_s") * MB,
        row.needed("source"),
        row.needed("date"),
    )
