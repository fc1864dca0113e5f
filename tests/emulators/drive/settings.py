"""How the emulated Drive is set up."""

from __future__ import annotations

from dataclasses import dataclass, field

DRIVE_FILE = "https://www.googleapis.com/auth/drive.file"
"""Sees only what the same OAuth client created."""
DRIVE = "https://www.googleapis.com/auth/drive"
SERVICE_ACCOUNT = "robot@emulated.iam.gserviceaccount.com"
"""A user without any storage, as service accounts are."""

DESKTOP, OTHER = "desktop.apps.googleusercontent.com", "colab.apps.googleusercontent.com"


@dataclass(kw_only=True)
class Settings:
    """Sizes in bytes, times in seconds. All may be changed while the emulator runs."""

    user: str = "ada@example.com"
    clients: dict[str, str] = field(default_factory=lambda: {DESKTOP: "GOCSPX-desktop", OTHER: "GOCSPX-other"})
    """OAuth client ids with their secrets."""
    storage_bytes: int = 15_000_000_000
    access_token_seconds: float = 3599.0
    refresh_token_seconds: float | None = None
    """604800 where the project's consent screen is in "Testing"."""
    session_seconds: float = 7 * 86400.0
    page_token_seconds: float = 3 * 3600.0
    units_per_minute_per_user: int = 325_000
    units_per_minute_per_project: int = 1_000_000
    """Of projects made since 2026-05-01."""
