"""Addresses to which secrets are sent."""

from __future__ import annotations

from urllib.parse import urlsplit

from backends.base import Rejected


def checked_address(address: str, what: str, advice: str) -> str:
    """``address`` without a slash at its end. Raises Rejected for one over which a secret would travel in the clear.

    ``what`` it is to be the address of, and ``advice`` how to set another, are for the message.
    """
    parts = urlsplit(address.rstrip("/"))
    at_home = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.hostname and (parts.scheme == "https" or at_home):
        return address.rstrip("/")
    raise Rejected(
        f"{address!r} is no address for {what}",
        advice=f"Only https (or http on this machine) will do: the key is sent there. {advice}",
    )
