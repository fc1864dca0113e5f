"""Compute Engine's replies, read into values; and its refusals, told apart. Pure: nothing here asks anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from backends.base import AuthError, BackendError, Lost, NoCapacity, Rejected, Transient
from backends.gce.requests import Ask, quota_link
from backends.gce.settings import HOW_TO_SIGN_IN
from backends.rented.calls import Malformed

PREEMPTED = "compute.instances.preempted"
"""The type of the operation by which Google takes a spot instance back."""

MINUTE_LIMIT_WAIT = 20.0
"""Seconds asked for where a limit counted by the minute is reached and Google does not say how long."""

_NONE_IN_ZONE = frozenset({
    "ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "RESOURCE_POOL_EXHAUSTED",
    "UNSUPPORTED_OPERATION",
})  # fmt: skip
_OVER_QUOTA = frozenset({"QUOTA_EXCEEDED", "LIMIT_EXCEEDED", "quotaExceeded", "limitExceeded"})
_TOO_OFTEN = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "concurrentLimitExceeded"})
_THERE_ALREADY = frozenset({"RESOURCE_ALREADY_EXISTS", "alreadyExists"})
_NOT_ENABLED = frozenset({"accessNotConfigured", "SERVICE_DISABLED"})
_BUSY = frozenset({"resourceNotReady", "RESOURCE_NOT_READY", "resourceInUseByAnotherResource"})


class Absent(Rejected):
    """There is no such thing."""


class ThereAlready(Lost):
    """Something of that name is there: an earlier request, whose reply was lost, may have made it."""


class Busy(Transient):
    """Something else is being done to it: look again."""


class NoneInZone(NoCapacity):
    """None of that kind is free in one zone; another zone may have one."""


class State(StrEnum):
    """Where an instance stands."""

    PROVISIONING = "PROVISIONING"
    STAGING = "STAGING"
    RUNNING = "RUNNING"
    PENDING = "PENDING"
    PENDING_STOP = "PENDING_STOP"
    STOPPING = "STOPPING"
    DEPROVISIONING = "DEPROVISIONING"
    TERMINATED = "TERMINATED"
    STOPPED = "STOPPED"
    REPAIRING = "REPAIRING"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance. ``number`` is Google's id of this very one, ``name`` ours."""

    name: str
    number: str
    zone: str
    state: State
    type: str
    created_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    spot: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that Google does. ``errors`` are codes and words, once it is done and has failed."""

    name: str
    kind: str
    done: bool
    request_id: str = ""
    errors: tuple[tuple[str, str], ...] = ()
    status: int = 0
    ended_at: datetime | None = None

    @property
    def failed(self) -> bool:
        """Whether it is done and has done nothing."""
        return bool(self.errors) or self.status >= 400


@dataclass(frozen=True, slots=True)
class Rule:
    """A firewall rule, as far as we look at it."""

    description: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk; ``used`` by an instance or not."""

    name: str
    zone: str
    labels: Mapping[str, str]
    used: bool
    created_at: datetime


def read_instance(value: Mapping[str, Any]) -> Instance:
    """An instance resource. Raises KeyError, ValueError."""
    scheduling = value.get("scheduling") or {}
    items = (value.get("metadata") or {}).get("items") or ()
    return Instance(
        name=str(value["name"]),
        number=str(value["id"]),
        zone=last_part(value["zone"]),
        state=State(value["status"]),
        type=last_part(value["machineType"]),
        created_at=moment(value["creationTimestamp"]),
        labels=dict(value.get("labels") or {}),
        metadata={str(item["key"]): str(item.get("value", "")) for item in items},
        address=_address(value.get("networkInterfaces") or ()),
        spot=scheduling.get("provisioningModel") == "SPOT",
    )


def _address(interfaces: Iterable[Mapping[str, Any]]) -> str:
    found = [access.get("natIP") for each in interfaces for access in each.get("accessConfigs") or ()]
    return next((str(address) for address in found if address), "")


def read_operation(value: Mapping[str, Any]) -> Operation:
    """An operation resource. Raises KeyError, ValueError."""
    errors = (value.get("error") or {}).get("errors") or ()
    return Operation(
        name=str(value["name"]),
        kind=str(value["operationType"]),
        done=value["status"] == "DONE",
        request_id=str(value.get("clientOperationId") or ""),
        errors=tuple((str(each.get("code", "")), str(each.get("message", ""))) for each in errors),
        status=int(value.get("httpErrorStatusCode") or 0),
        ended_at=moment(value["endTime"]) if value.get("endTime") else None,
    )


def read_operations(reply: Mapping[str, Any]) -> list[Operation]:
    """The operations of a listing, the newest last."""
    found = sorted(reply.get("items") or (), key=lambda each: str(each.get("insertTime", "")))
    return [read_operation(each) for each in found]


def read_disk(value: Mapping[str, Any]) -> Disk:
    """A disk resource."""
    return Disk(
        name=str(value["name"]),
        zone=last_part(value["zone"]),
        labels=dict(value.get("labels") or {}),
        used=bool(value.get("users")),
        created_at=moment(value["creationTimestamp"]),
    )


def read_rule(value: Mapping[str, Any]) -> Rule:
    """A firewall rule."""
    return Rule(str(value.get("description", "")), tuple(value.get("sourceRanges") or ()))


def read_scattered(reply: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """What an aggregated list has of ``name``, over all zones. Raises Malformed where Google left zones out."""
    if unreachable := reply.get("unreachables"):
        raise Malformed(f"Google left {', '.join(map(str, unreachable))} out of its list")
    return [each for scope in (reply.get("items") or {}).values() for each in scope.get(name) or ()]


def read_quotas(reply: Mapping[str, Any]) -> dict[str, int]:
    """How many of each metric a project or region may have."""
    return {str(each["metric"]): int(each["limit"]) for each in reply.get("quotas") or ()}


def read_image(reply: Mapping[str, Any]) -> tuple[str, int]:
    """An image's path, and the least GiB of its disk."""
    path = str(reply["selfLink"]).partition("/compute/v1/")[2]
    if not path:
        raise Malformed(f"{reply['selfLink']!r} is no image")
    return path, int(reply.get("diskSizeGb") or 0)


def last_part(link: str) -> str:
    """The name at the end of a resource's address."""
    return str(link).rpartition("/")[2]


def moment(text: str) -> datetime:
    """An RFC 3339 time. Raises ValueError."""
    return datetime.fromisoformat(str(text)).astimezone(UTC)


def page_of(reply: Mapping[str, Any]) -> str:
    """The token of the next page; empty after the last."""
    return str(reply.get("nextPageToken") or "")


def problem(ask: Ask, status: int, body: bytes) -> BackendError:
    """What a refusal by HTTP means, in the words of who has to act on it."""
    said, reasons = _told(body)
    words = f"{ask.doing}: Google answered {status}: {said or 'no reason given'}"
    if reasons & _THERE_ALREADY:
        return ThereAlready(words)
    if status == 404:
        return Absent(words)
    if reasons & _BUSY:
        return Busy(words)
    if status == 429 or reasons & _TOO_OFTEN:
        return Transient(words, retry_after=MINUTE_LIMIT_WAIT)
    if ask.rents and reasons & _OVER_QUOTA:
        return _over_quota(ask, said)
    if status in (401, 403):
        return AuthError(words, advice=_advice(ask, status, reasons))
    if status >= 500:
        return Lost(words) if ask.rents else Transient(words)
    return Rejected(words)


def failure(ask: Ask, zone: str, operation: Operation) -> BackendError | None:
    """Why an operation that is done made no instance; None where it made one. Google's answer to `insert` came long
    before: only here it says what there is none of.
    """
    if not operation.failed:
        return None
    codes = {code for code, _ in operation.errors}
    said = "; ".join(f"{words} ({code})" for code, words in operation.errors) or f"HTTP {operation.status}"
    if codes & _THERE_ALREADY:
        return ThereAlready(f"{ask.doing}: {said}")
    if codes & _OVER_QUOTA:
        return _over_quota(ask, said)
    if codes & _NONE_IN_ZONE or operation.status >= 500:
        return NoneInZone(f"Google has none free in {zone}: {said}")
    return Rejected(f"{ask.doing}: Google could not do it: {said}")


def _over_quota(ask: Ask, said: str) -> NoCapacity:
    project = str(ask.params["project"])
    return NoCapacity(
        f"Google does not let project {project} have it: {said} More is asked for at {quota_link(project)}"
    )


def over_quota_words(project: str, metric: str, place: str, limit: int, needed: int) -> str:
    """Why an offer cannot be rented by this project, and where that is changed."""
    return (
        f"Google lets project {project} have {limit} {metric} {place}, and it has {needed}; "
        f"ask for more at {quota_link(project)}"
    )


def _advice(ask: Ask, status: int, reasons: frozenset[str]) -> str:
    if reasons & _NOT_ENABLED:
        return "Enable the Compute Engine API: https://console.cloud.google.com/apis/library/compute.googleapis.com"
    if status == 401:
        return f"Sign in: {HOW_TO_SIGN_IN}."
    return f"Let these credentials call compute.{ask.resource}.{ask.method}; docs/gce.md has the whole list."


def _told(body: bytes) -> tuple[str, frozenset[str]]:
    """The message and the machine-readable reasons, in either of the two forms that Google uses."""
    try:
        error = json.loads(body)["error"]
        details = [*error.get("errors", ()), *error.get("details", ())]
        reasons = {str(each["reason"]) for each in details if "reason" in each}
        return str(error.get("message", "")), frozenset(reasons)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", frozenset()
