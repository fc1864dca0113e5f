"""A transfer under way, in one line."""

from __future__ import annotations

from backends.units import format_duration, format_size


def transfer_text(what: str, done: int, total: int, bytes_per_second: float) -> str:
    """``upload 12.0 MB of 40.0 MB, 3.1 MB/s, 9 s left``; without what is not known yet (0)."""
    size = f"{format_size(done)} of {format_size(total)}" if total else format_size(done)
    rate = f", {format_size(round(bytes_per_second))}/s" if bytes_per_second >= 1 else ""
    left = f", {format_duration((total - done) / bytes_per_second)} left" if rate and total > done else ""
    return f"{what} {size}{rate}{left}"
