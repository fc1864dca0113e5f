"""What the user may set about AWS, and whether boto3 will find credentials."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GB = 10**9

HOW_TO_SIGN_IN = "`aws configure`, or `aws configure sso` and AWS_PROFILE"

LIST_LAG_SECONDS = 60.0
"""From asking for an instance until a list must show it: 30 s in which the reply may come, and as much again. EC2 says
that it is eventually consistent, and not how long that takes."""

_OF_A_TERMINAL = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
_VENDOR = Path("/sys/devices/virtual/dmi/id/sys_vendor")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under ``aws.`` (docs/aws.md). Sizes in bytes, times in seconds; empty means the default."""

    regions: tuple[str, ...] = ("us-east-1",)
    profile: str = ""
    spot: bool = False
    disk_bytes: int = 100 * GB
    ami: str = ""
    ssh_from: str = ""
    ssh_port: int = 22
    list_lag: float = LIST_LAG_SECONDS
    stage_from: int | None = GB
    """None: nothing goes by S3."""

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Settings:
        """From the mapping that an opener gets."""
        return cls(
            regions=tuple(settings.get("regions", ("us-east-1",))),
            profile=settings.get("profile", ""),
            spot=settings.get("spot", False),
            disk_bytes=settings.get("disk", 100 * GB),
            ami=settings.get("ami", ""),
            ssh_from=settings.get("ssh_from", ""),
            ssh_port=settings.get("ssh_port", 22),
            list_lag=settings.get("list_lag", LIST_LAG_SECONDS),
            stage_from=settings.get("stage_from", GB),
        )

    def may_be_signed_in(self) -> bool:
        """Whether there is anything that boto3 could take credentials from: looked for without loading it, and without
        asking a metadata address that most machines do not have.
        """
        if self.profile or any(os.environ.get(name) for name in _OF_A_TERMINAL):
            return True
        files = (
            os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
            os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config",
        )
        return any(Path(file).expanduser().exists() for file in files) or _on_ec2()


def _on_ec2() -> bool:
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    try:
        return "Amazon" in _VENDOR.read_text(encoding="utf-8")
    except OSError:
        return False
