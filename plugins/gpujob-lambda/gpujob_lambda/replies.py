"""Lambda's replies, read into values; and its refusals, told apart by their codes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from backends.base import AuthError, BackendError, Lost, NoCapacity, Rejected, Transient
from backends.rented.calls import Malformed, Reply, Request
from gpujob_lambda.settings import KEY_NAME, SETUP_COMMAND

MICROS_PER_CENT = 10_000
GIB = 1 << 30


class Status(StrEnum):
    """Where a machine stands."""

    BOOTING = "booting"
    ACTIVE = "active"
    UNHEALTHY = "unhealthy"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    PREEMPTED = "preempted"


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine. ``micros_per_hour`` is what its type costs now."""

    id: str
    name: str
    status: Status
    ip: str
    region: str
    micros_per_hour: int
    gpus: int
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Type:
    """A type of machine, and the regions in which one is free now. Sizes in bytes."""

    name: str
    gpu: str
    gpus: int
    vcpus: int
    ram_bytes: int
    disk_bytes: int
    micros_per_hour: int
    regions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """An SSH key of the account."""

    id: str
    name: str


def data_of(reply: Reply) -> Any:
    """What a success holds. Raises Malformed."""
    value = reply.json()
    if not isinstance(value, dict) or "data" not in value:
        raise Malformed("no 'data'")
    return value["data"]


def read_instances(data: Any) -> list[Instance]:
    """The machines of a listing."""
    return [read_instance(each) for each in data]


def read_instance(each: Any) -> Instance:
    """One machine."""
    return Instance(
        id=str(each["id"]),
        name=str(each.get("name") or ""),
        status=Status(each["status"]),
        ip=str(each.get("ip") or ""),
        region=str(each["region"]["name"]),
        micros_per_hour=int(each["instance_type"]["price_cents_per_hour"]) * MICROS_PER_CENT,
        gpus=int(each["instance_type"]["specs"]["gpus"]),
        tags={str(tag["key"]): str(tag["value"]) for tag in each.get("tags") or ()},
    )


def read_types(data: Any) -> list[Type]:
    """The types of machines."""
    return [_read_type(each["instance_type"], each["regions_with_capacity_available"]) for each in data.values()]


def _read_type(what: Any, regions: Any) -> Type:
    specs = what["specs"]
    return Type(
        name=str(what["name"]),
        gpu=str(what.get("gpu_description") or ""),
        gpus=int(specs["gpus"]),
        vcpus=int(specs["vcpus"]),
        ram_bytes=int(specs["memory_gib"]) * GIB,
        disk_bytes=int(specs["storage_gib"]) * GIB,
        micros_per_hour=int(what["price_cents_per_hour"]) * MICROS_PER_CENT,
        regions=tuple(sorted(str(region["name"]) for region in regions)),
    )


def read_launched(data: Any) -> str:
    """The id of the machine that was rented: exactly one was asked for."""
    (id_,) = data["instance_ids"]
    return str(id_)


def read_keys(data: Any) -> list[Key]:
    """The account's SSH keys."""
    return [Key(str(each["id"]), str(each["name"])) for each in data]


NO_CAPACITY = {
    "instance-operations/launch/insufficient-capacity": "Lambda has none free",
    "global/quota-exceeded": "this Lambda account may not rent more",
}
"""Codes that mean: take the next offer."""

NOT_THERE = "global/object-does-not-exist"


def problem(request: Request, reply: Reply) -> BackendError:
    """What a reply that is no success means, in the words of who has to act on it."""
    code, said = _error(reply)
    if reply.status == 429:
        return Transient("Lambda's rate limit is used up", retry_after=reply.retry_after)
    if reply.status >= 500 or reply.status < 400:
        words = f"{request.doing}: Lambda answered {reply.status} {said}".rstrip()
        return Lost(words) if request.rents else Transient(words)
    if code in NO_CAPACITY:
        return NoCapacity(f"{NO_CAPACITY[code]}: {said}")
    if request.rents and code == NOT_THERE:  # the SSH key, which another process of ours has just taken out
        return Transient(f"{request.doing}: {said}")
    if reply.status in (401, 403):
        return AuthError(f"{request.doing}: {said}", advice=_ADVICE.get(code, _MEND_KEY))
    return Rejected(f"{request.doing}: Lambda refused it ({reply.status}): {said}")


_MEND_KEY = f"Make a new key, then `{SETUP_COMMAND}`. A value in {KEY_NAME} goes before the kept one."
_ADVICE = {
    "global/account-inactive": "Verify the account's e-mail address and payment method at https://cloud.lambda.ai.",
    "global/invalid-address": "Mend the billing address at https://cloud.lambda.ai.",
}


def is_not_there(reply: Reply) -> bool:
    """Whether what was asked for does not exist: to whoever deletes it, that is success."""
    return reply.status == 404 or _error(reply)[0] == NOT_THERE


def _error(reply: Reply) -> tuple[str, str]:
    """The code of a refusal, and what it says of itself."""
    try:
        error = reply.json()["error"]
        said = " ".join(str(error[part]) for part in ("message", "suggestion") if error.get(part))
        return str(error.get("code") or ""), said[:1000]
    except (Malformed, LookupError, TypeError, AttributeError):
        return "", ""
