"""This machine's address as the internet sees it: a rented machine lets SSH in from there and from nowhere else."""

from __future__ import annotations

import http.client
import ipaddress
import time
import urllib.error
import urllib.request

from backends.base import Transient
from backends.recent import Recent

SERVICE = "https://checkip.amazonaws.com"
"""Says from which IPv4 address it is asked."""

REPLY_SECONDS = 10.0


ADDRESS_SECONDS = 60.0


class OwnNetwork:
    """The network that SSH is admitted from: what the user says, or this machine's address, asked for now and then."""

    def __init__(self, setting: str, said: str) -> None:
        self._setting = setting
        self._said = said
        self._address: Recent[str] = Recent(ADDRESS_SECONDS, time.monotonic)

    def get(self) -> str:
        """In CIDR notation. Raises Transient."""
        return self._said or self._address.get(lambda: own_address(self._setting))


def own_address(setting: str, service: str = SERVICE) -> str:
    """The address, as a network of one. Raises Transient; ``setting`` names where the user may say it instead."""
    try:
        with urllib.request.urlopen(service, timeout=REPLY_SECONDS) as reply:  # noqa: S310  a constant of ours
            return str(ipaddress.ip_network(reply.read(100).decode("ascii").strip()))
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise Transient(
            f"{service} does not say which address this machine has: {error}",
            advice=f"Say it yourself: gpujob config set {setting} ADDRESS/32",
        ) from error
