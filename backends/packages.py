"""Optional packages: looked for without loading them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec


def first_missing(packages: Iterable[str]) -> str | None:
    """The first of ``packages`` that is not installed; None where all are."""
    return next((package for package in packages if find_spec(package) is None), None)
