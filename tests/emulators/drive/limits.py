"""Quota units by the minute, per user and per project, as counted since 2026-05-01."""

from __future__ import annotations

from collections import Counter

from tests.emulators.drive.errors import rate_limit
from tests.emulators.drive.settings import Settings

LIST, DOWNLOAD, CHANGE, OTHER = 100, 200, 50, 5
COSTS = {
    "files.list": LIST, "changes.list": LIST, "files.create": CHANGE, "files.update": CHANGE, "files.copy": CHANGE,
    "files.delete": CHANGE,
}  # fmt: skip


def cost(method: str, media: bool) -> int:
    """Units of one call; ``media`` says that it fetches content."""
    return DOWNLOAD if media else COSTS.get(method, OTHER)


class Quota:
    """Units used in each minute of the emulator's clock."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._used: Counter[tuple[str, int]] = Counter()

    def take(self, user: str, project: str, units: int, now: float) -> None:
        """Raise ApiError 403 where the minute is used up; a refused call is not counted."""
        minute = int(now // 60)
        for name, most in (
            (user, self._settings.units_per_minute_per_user),
            (project, self._settings.units_per_minute_per_project),
        ):
            if self._used[name, minute] + units > most:
                raise rate_limit(reason="userRateLimitExceeded" if name == user else "rateLimitExceeded")
        for name in (user, project):
            self._used[name, minute] += units

    def busiest_minute(self, name: str) -> int:
        """The most units that a user or a project has used in one minute."""
        return max((units for (who, _), units in self._used.items() if who == name), default=0)
