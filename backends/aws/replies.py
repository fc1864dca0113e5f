"""AWS's replies, read into values; and its refusals, told apart. Pure: nothing here asks anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from backends.aws.requests import Ask, quota_code, quota_link
from backends.aws.settings import HOW_TO_SIGN_IN
from backends.base import AuthError, BackendError, Lost, NoCapacity, Rejected, Transient
from backends.rented.calls import Malformed
from backends.units import MICROS_PER_USD

SPOT_TAKEN_BACK = "Server.SpotInstanceTermination"

NOT_FOUND = frozenset({
    "InvalidInstanceID.NotFound", "InvalidGroup.NotFound", "InvalidGroupId.NotFound", "InvalidVolume.NotFound",
})  # fmt: skip
IN_USE = frozenset({"DependencyViolation", "InvalidGroup.InUse"})
THERE_ALREADY = frozenset({"InvalidPermission.Duplicate", "InvalidGroup.Duplicate"})
MISMATCH = "IdempotentParameterMismatch"

_NONE_IN_ZONE = frozenset({
    "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
    "UnfulfillableCapacity", "InsufficientFreeAddressesInSubnet", "Unsupported", "SpotMaxPriceTooLow",
    "ReservationCapacityExceeded",
})  # fmt: skip
_OVER_QUOTA = frozenset({
    "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "InstanceLimitExceeded", "MaxFleetCountExceeded",
    "PendingVerification", "VolumeLimitExceeded",
})  # fmt: skip
_THROTTLED = frozenset({
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException", "EC2ThrottledException",
})  # fmt: skip
_SIGN_IN = frozenset({
    "AuthFailure", "UnauthorizedOperation", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken",
    "ExpiredTokenException", "RequestExpired", "UnrecognizedClientException", "AccessDenied", "AccessDeniedException",
    "OptInRequired", "Blocked", "MissingAuthenticationToken", "InvalidSignatureException", "403",
})  # fmt: skip
_ENCODED = re.compile(r"\s*Encoded authorization failure message:.*", re.DOTALL)
_REASON_TIME = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


class NoneInZone(NoCapacity):
    """None of that kind is free in one zone; another zone may have one."""


class Mismatch(Lost):
    """The ClientToken was used before, with other words: what it was used for has been made."""


class State(StrEnum):
    """Where an instance stands."""

    PENDING = "pending"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance. ``ended_at`` is when it was ended, by AWS's clock, where AWS says so."""

    id: str
    state: State
    type: str
    region: str
    zone: str
    launched_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    spot: bool = False
    reason: str = ""
    ended_at: datetime | None = None


def read_instances(region: str, reply: Mapping[str, Any]) -> list[Instance]:
    """The instances of a listing. Raises Malformed, KeyError, ValueError."""
    return [_instance(region, each) for group in reply["Reservations"] for each in group["Instances"]]


def read_rented(region: str, reply: Mapping[str, Any]) -> Instance:
    """The instance that was made."""
    (instance,) = reply["Instances"]
    return _instance(region, instance)


def _instance(region: str, value: Mapping[str, Any]) -> Instance:
    when = _REASON_TIME.search(value.get("StateTransitionReason") or "")
    return Instance(
        id=str(value["InstanceId"]),
        state=State(value["State"]["Name"]),
        type=str(value["InstanceType"]),
        region=region,
        zone=str((value.get("Placement") or {}).get("AvailabilityZone") or ""),
        launched_at=value["LaunchTime"].astimezone(UTC),
        tags=tags_of(value),
        address=str(value.get("PublicIpAddress") or ""),
        spot=value.get("InstanceLifecycle") == "spot",
        reason=str((value.get("StateReason") or {}).get("Code") or ""),
        ended_at=datetime.strptime(when[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) if when else None,
    )


def tags_of(value: Mapping[str, Any]) -> dict[str, str]:
    """The tags of anything that has some."""
    return {str(tag["Key"]): str(tag["Value"]) for tag in value.get("Tags") or ()}


def read_subnets(reply: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Subnet and VPC by zone."""
    return {str(each["AvailabilityZone"]): (str(each["SubnetId"]), str(each["VpcId"])) for each in reply["Subnets"]}


def read_zones(reply: Mapping[str, Any]) -> set[str]:
    """The zones that have the type."""
    return {str(each["Location"]) for each in reply["InstanceTypeOfferings"]}


def read_group_networks(group: Mapping[str, Any]) -> set[str]:
    """The networks that a security group admits."""
    return {
        str(entry[name])
        for permission in group.get("IpPermissions") or ()
        for kind, name in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"))
        for entry in permission.get(kind) or ()
    }


def read_image(reply: Mapping[str, Any]) -> tuple[str, int]:
    """An image's root device, and the least GB of its volume. Raises Malformed."""
    for image in reply["Images"]:
        root = str(image.get("RootDeviceName") or "/dev/sda1")
        sizes = [
            int(each["Ebs"].get("VolumeSize") or 0)
            for each in image.get("BlockDeviceMappings") or ()
            if each.get("DeviceName") == root and each.get("Ebs")
        ]
        return root, max(sizes, default=0)
    raise Malformed("no such image")


def read_on_demand(reply: Mapping[str, Any]) -> dict[str, int]:
    """Micro-dollars per hour on demand by instance type, of a page of the Price List: each item is JSON in a string."""
    found = {}
    for text in reply["PriceList"]:
        item = json.loads(text, parse_float=Decimal)
        rates = [
            micros(dimension["pricePerUnit"]["USD"])
            for term in (item.get("terms") or {}).get("OnDemand", {}).values()
            for dimension in term["priceDimensions"].values()
            if dimension.get("unit") == "Hrs"
        ]
        if len(rates) == 1 and rates[0] > 0:
            found[str(item["product"]["attributes"]["instanceType"])] = rates[0]
    return found


def read_spot(reply: Mapping[str, Any]) -> dict[tuple[str, str], tuple[datetime, int]]:
    """The newest spot price of a page by type and zone: since when, and micro-dollars per hour."""
    found: dict[tuple[str, str], tuple[datetime, int]] = {}
    for each in reply["SpotPriceHistory"]:
        place = str(each["InstanceType"]), str(each["AvailabilityZone"])
        price = each["Timestamp"], micros(each["SpotPrice"])
        if price[1] > 0 and (place not in found or found[place][0] < price[0]):
            found[place] = price
    return found


def micros(dollars: Any) -> int:
    """Micro-dollars, rounded up: a price is never understated. Raises Malformed."""
    try:
        number = Decimal(str(dollars))
    except InvalidOperation:
        raise Malformed(f"{dollars!r} is no price") from None
    if not number.is_finite() or number < 0:
        raise Malformed(f"{dollars!r} is no price")
    return int((number * MICROS_PER_USD).to_integral_value(ROUND_CEILING))


def problem(ask: Ask, status: int, code: str, said: str) -> BackendError:
    """What a refusal means, in the words of who has to act on it. Codes first: capacity comes as an HTTP 500."""
    said = _ENCODED.sub("", said).strip()
    if ask.rents and (refusal := _renting_refused(ask, code, said)):
        return refusal
    if code in _THROTTLED:
        return Transient(f"{ask.doing}: AWS asks to ask less often ({code})")
    if code in _SIGN_IN:
        return AuthError(f"{ask.doing}: AWS refuses it ({code}): {said}", advice=_advice(ask, code))
    if status >= 500:
        words = f"{ask.doing}: AWS answered {status} {code}: {said}"
        return Lost(words) if ask.rents else Transient(words)
    if ask.rents and code in NOT_FOUND:
        return Transient(f"{ask.doing}: {said}")  # our security group, which another worker has just removed
    return Rejected(f"{ask.doing}: AWS finds the request wrong ({code}): {said}")


def _renting_refused(ask: Ask, code: str, said: str) -> BackendError | None:
    zone = _zone(ask)
    if code == MISMATCH:
        return Mismatch(f"{ask.doing}: AWS has heard this request before, with other words")
    if code in _NONE_IN_ZONE:
        return NoneInZone(f"AWS has none free in {zone} ({code}): {said}")
    if code in _OVER_QUOTA:
        return NoCapacity(f"AWS does not let this account have it ({code}): {said} {_quota_advice(ask)}")
    return None


def over_quota_words(region: str, code: str, vcpus: int, needed: int, family: str, *, spot: bool) -> str:
    """Why an offer cannot be rented by this account, and where that is changed."""
    kind = "spot" if spot else "on-demand"
    return (
        f"AWS lets this account run {vcpus} vCPUs of {kind} {family} instances in {region}, and it has {needed}; "
        f"ask for more at {quota_link(region, code)}"
    )


def _quota_advice(ask: Ask) -> str:
    type_, spot = str(ask.params["InstanceType"]), "InstanceMarketOptions" in ask.params
    return f"More vCPUs are asked for at {quota_link(ask.region, quota_code(type_, spot=spot))}"


def _zone(ask: Ask) -> str:
    return ask.doing.rpartition(" in ")[2]


def _advice(ask: Ask, code: str) -> str:
    if code in ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"):
        return f"Let these credentials call {ask.service}:{_camel(ask.operation)}; docs/aws.md has the whole policy."
    return f"Sign in: {HOW_TO_SIGN_IN}."


def _camel(operation: str) -> str:
    return "".join(word.capitalize() for word in operation.split("_"))


def page_of(reply: Mapping[str, Any]) -> str:
    """The token of the next page; empty after the last."""
    return str(reply.get("NextToken") or "")


def newest(prices: Iterable[Mapping[tuple[str, str], tuple[datetime, int]]]) -> dict[tuple[str, str], int]:
    """Several pages of spot prices as one."""
    found: dict[tuple[str, str], tuple[datetime, int]] = {}
    for page in prices:
        for place, price in page.items():
            if place not in found or found[place][0] < price[0]:
                found[place] = price
    return {place: price[1] for place, price in found.items()}
