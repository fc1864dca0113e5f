"""What the user may set about Google Compute Engine, and whether Google's own library will find credentials."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.addresses import checked_address

GB = 10**9

API = "https://compute.googleapis.com"
FAMILY = "deeplearning-platform-release/common-cu129-ubuntu-2404-nvidia-580"
"""Project and family of the Deep Learning VM image with CUDA and NVIDIA's driver, on Ubuntu."""

HOW_TO_SIGN_IN = "`gcloud auth application-default login`, or gpujob config set gce.credentials FILE"
HOW_TO_NAME_PROJECT = "gpujob config set gce.project YOUR-PROJECT"

LIST_LAG_SECONDS = 150.0
"""From asking for an instance until Google must know of it: a request may hang for two minutes before it arrives."""

CREDENTIALS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
_PRODUCT = Path("/sys/class/dmi/id/product_name")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under ``gce.`` (docs/gce.md). Sizes in bytes, times in seconds; empty means the default."""

    project: str = ""
    credentials: str = ""
    regions: tuple[str, ...] = ("us-central1",)
    spot: bool = False
    disk_bytes: int = 100 * GB
    image: str = FAMILY
    network: str = "default"
    ssh_from: str = ""
    ssh_port: int = 22
    list_lag: float = LIST_LAG_SECONDS
    api: str = API

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Settings:
        """From the mapping that an opener gets. Raises Rejected for an address that no token may be sent to."""
        advice = "To return to Google's own: gpujob config set gce.api default"
        return cls(
            project=settings.get("project", ""),
            credentials=settings.get("credentials", ""),
            regions=tuple(settings.get("regions", ("us-central1",))),
            spot=settings.get("spot", False),
            disk_bytes=settings.get("disk", 100 * GB),
            image=settings.get("image", "") or FAMILY,
            network=settings.get("network", "") or "default",
            ssh_from=settings.get("ssh_from", ""),
            ssh_port=settings.get("ssh_port", 22),
            list_lag=settings.get("list_lag", LIST_LAG_SECONDS),
            api=checked_address(settings.get("api", "") or API, "Compute Engine", advice),
        )

    def credentials_file(self) -> Path | None:
        """The file that Google's library would take credentials from, as far as one is named; it may not be there."""
        if named := self.credentials or os.environ.get(CREDENTIALS_VARIABLE):
            return Path(named).expanduser()
        folder = Path(os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud").expanduser()
        usual = folder / "application_default_credentials.json"
        return usual if usual.exists() else None

    def project_or_none(self) -> str | None:
        """The project to rent in: the setting, the environment, or what the credentials belong to."""
        return self.project or os.environ.get(PROJECT_VARIABLE) or self._project_of_credentials()

    def lacking(self) -> tuple[str, str]:
        """What is missing before anything can be asked, and how to mend it; both empty where nothing is. Loads none of
        Google's packages, and asks no metadata address that most machines do not have.
        """
        file = self.credentials_file()
        if file and not file.is_file():
            return f"the credentials file {file}, which is not there", HOW_TO_SIGN_IN
        if file is None and not _on_gce():
            return "credentials", HOW_TO_SIGN_IN
        if self.project_or_none() is None:
            return "the project to rent in", HOW_TO_NAME_PROJECT
        return "", ""

    def _project_of_credentials(self) -> str | None:
        file = self.credentials_file()
        try:
            told = json.loads(file.read_bytes()) if file else {}
            return str(told.get("project_id") or told.get("quota_project_id") or "") or None
        except (OSError, ValueError, AttributeError):
            return None


def _on_gce() -> bool:
    try:
        return "Google Compute Engine" in _PRODUCT.read_text(encoding="utf-8")
    except OSError:
        return False
