"""Two clocks, this machine's and the provider's: a rented machine is told the hour at which it must be over, so they
have to agree."""

from __future__ import annotations

from datetime import UTC, datetime

from backends.base import Rejected
from backends.units import format_duration

MOST_SECONDS_APART = 300.0
"""Within these a machine ends at most so much too early, and never too late: the earlier of the two ends counts."""


def seconds_between(since: datetime, now: datetime) -> float:
    """From one to the other by a provider's clock, read in whole seconds: the one begun counts, as on bills."""
    return max((now - since).total_seconds() + 1.0, 0.0)


def agreed_now(there: datetime | None, provider: str) -> datetime:
    """The provider's time; ours before it has said any.

    Raises Rejected where they are so far apart that a machine would be born after its end, or be told one that it never
    sees: nothing is rented then, and nothing paid.
    """
    here = datetime.now(UTC)
    if there is None:
        return here
    apart = (here - there).total_seconds()
    if abs(apart) <= MOST_SECONDS_APART:
        return there
    raise Rejected(
        f"this machine's clock is {format_duration(abs(apart))} {'ahead of' if apart > 0 else 'behind'} {provider}'s: "
        "a machine would be told to end at the wrong hour, so none was rented",
        advice="Set this machine's clock, then `gpujob resume` the job.",
    )
