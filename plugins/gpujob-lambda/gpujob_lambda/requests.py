"""Requests to Lambda's REST v1 (docs-api.lambda.ai, 2026-11), as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backends.rented.calls import Request


@dataclass(frozen=True, slots=True)
class Wish:
    """A machine to be rented. ``user_data`` is run by cloud-init at the first boot, as root."""

    name: str
    type: str
    region: str
    ssh_key: str
    user_data: str
    tags: Mapping[str, str]


def list_types() -> Request:
    """All types of machines, with prices and the regions in which each is free now."""
    return Request("GET", "/instance-types", "listing types of machines")


def list_instances() -> Request:
    """All machines of the account, ours or not."""
    return Request("GET", "/instances", "listing machines")


def get_instance(id_: str) -> Request:
    """One machine."""
    return Request("GET", f"/instances/{id_}", f"looking at machine {id_}")


def launch(wish: Wish) -> Request:
    """Rent a machine. Exactly one SSH key of the account has to be named, though ours comes by user data."""
    body = {
        "region_name": wish.region,
        "instance_type_name": wish.type,
        "ssh_key_names": [wish.ssh_key],
        "name": wish.name,
        "user_data": wish.user_data,
        "tags": [{"key": name, "value": value} for name, value in wish.tags.items()],
    }
    return Request("POST", "/instance-operations/launch", f"renting {wish.name}", body, rents=True)


def terminate(id_: str) -> Request:
    """End a machine for good."""
    body = {"instance_ids": [id_]}
    return Request("POST", "/instance-operations/terminate", f"terminating machine {id_}", body)


def list_keys() -> Request:
    """The account's SSH keys."""
    return Request("GET", "/ssh-keys", "listing SSH keys")


def add_key(name: str, public_key: str) -> Request:
    """Add a public key to the account."""
    return Request("POST", "/ssh-keys", f"adding the SSH key {name}", {"name": name, "public_key": public_key})


def delete_key(id_: str) -> Request:
    """Take a key out of the account."""
    return Request("DELETE", f"/ssh-keys/{id_}", f"deleting the SSH key {id_}")
