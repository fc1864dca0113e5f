"""RunPod's replies, read into values; and its refusals, told apart. Pure: nothing here sends anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from backends.base import AuthError, BackendError, Lost, NoCapacity, Rejected, Transient
from backends.rented.calls import Malformed, Reply, Request
from backends.runpod.settings import KEY_NAME, SETUP_COMMAND
from backends.units import MICROS_PER_USD

BILLING_PAGE = "https://console.runpod.io/user/billing"

NO_CAPACITY_TEXTS = (
    "no longer any instances available",
    "not enough free gpus on the host",
    "does not have the resources to deploy this pod",
)
"""Parts of RunPod's sentences for "none is free" (2026-11). It has no code for that: a 400 is told apart by these."""

NO_SUCH_POD_TEXTS = ("pod not found",)


class PodStatus(StrEnum):
    """Where a pod stands, as REST v2 names it."""

    PROVISIONING = "PROVISIONING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    EXITED = "EXITED"
    ERROR = "ERROR"
    TERMINATED = "TERMINATED"


@dataclass(frozen=True, slots=True)
class SshEndpoint:
    """Where a pod's sshd is reached directly; the port is another one after every start."""

    host: str
    port: int
    user: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. ``micros_per_hour`` is what it costs now; ``created_at`` is by RunPod's clock, None where it is not told.

    ``up`` says that its container runs; ``start`` names this start of it, after which sshd has new host keys.
    """

    id: str
    name: str
    status: PodStatus
    env: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    start: str = ""
    place: str | None = None
    micros_per_hour: int = 0
    up: bool = False
    ssh: SshEndpoint | None = None
    gpu_count: int = 0


def read_pods(value: Any) -> list[Pod]:
    """The pods of a listing. Raises Malformed."""
    return [read_pod(pod) for pod in _list(_object(value), "pods")]


def read_pod(value: Any) -> Pod:
    """A pod as REST v2 shows it. Raises Malformed."""
    pod = _object(value)
    gpu = pod.get("gpu")
    return Pod(
        id=_text(pod, "id"),
        name=_text(pod, "name"),
        status=_status(_text(pod, "status")),
        env={str(name): str(text) for name, text in (pod.get("env") or {}).items()},
        created_at=_moment(pod.get("createdAt")),
        start=str(pod.get("startedAt") or ""),
        place=pod.get("dataCenterId") or None,
        micros_per_hour=micros(pod.get("cost") or 0),
        up=bool(pod.get("runtime")),
        ssh=_endpoint((pod.get("ssh") or {}).get("direct")),
        gpu_count=int(gpu.get("count", 1)) if isinstance(gpu, dict) else 0,
    )


def _endpoint(value: Any) -> SshEndpoint | None:
    if not isinstance(value, dict) or not value.get("host") or not value.get("port"):
        return None
    return SshEndpoint(str(value["host"]), int(value["port"]), str(value.get("username") or "root"))


def read_graphql_pod(value: Any) -> Pod:
    """A pod as GraphQL and RunPod's package show it: other words, ports in its runtime, no time of creation."""
    pod = _object(value)
    runtime = pod.get("runtime") or None
    pairs = (str(entry).partition("=") for entry in pod.get("env") or ())
    status = _status(str(pod.get("desiredStatus") or "RUNNING"))
    return Pod(
        id=_text(pod, "id"),
        name=str(pod.get("name") or ""),
        status=PodStatus.STARTING if status is PodStatus.RUNNING and runtime is None else status,
        env={name: text for name, _, text in pairs},
        start=str(pod.get("lastStatusChange") or ""),
        micros_per_hour=micros(pod.get("adjustedCostPerHr") or pod.get("costPerHr") or 0),
        up=runtime is not None,
        ssh=_public_ssh((runtime or {}).get("ports") or ()),
        gpu_count=int(pod.get("gpuCount") or 0),
    )


def _public_ssh(ports: Iterable[Mapping[str, Any]]) -> SshEndpoint | None:
    for port in ports:
        if port.get("privatePort") == 22 and port.get("isIpPublic") and port.get("ip") and port.get("publicPort"):
            return SshEndpoint(str(port["ip"]), int(port["publicPort"]), "root")
    return None


def read_bill(value: Any) -> int | None:
    """Micro-dollars that a pod was charged, rounded up; None while there is no record of it. Raises Malformed."""
    records = _list(_object(value), "records")
    if not records:
        return None
    return micros(sum((_number(record.get("totalAmount")) for record in records), Decimal(0)))


def micros(dollars: Any) -> int:
    """Micro-dollars in a JSON number, rounded up: a price is never understated. Raises Malformed."""
    return int((_number(dollars) * MICROS_PER_USD).to_integral_value(ROUND_CEILING))


def problem(request: Request, reply: Reply) -> BackendError:
    """What a reply that is no success means, in the words of who has to act on it."""
    said = _detail(reply)
    if reply.status == 429:
        wait = f"; it asks to wait {reply.retry_after:.0f} s" if reply.retry_after is not None else ""
        return Transient(f"RunPod's rate limit is used up{wait}", retry_after=reply.retry_after)
    if reply.status >= 500 or reply.status in (408, 425) or reply.status < 400:
        words = f"{request.doing}: RunPod answered {reply.status} {said}".rstrip()
        return Lost(words) if request.rents else Transient(words, retry_after=reply.retry_after)
    return refusal(request, reply.status, said)


def refusal(request: Request, status: int, said: str) -> BackendError:
    """A refusal by its status and text: 400 is a broken rule or nothing free, which only the text tells."""
    if _any_of(NO_CAPACITY_TEXTS, said):
        return NoCapacity(f"RunPod has none free: {said}")
    if request.rents and status == 403:
        return NoCapacity(f"this RunPod account may not rent that: {said}", advice=_ADVICE[403])
    words = f"{request.doing}: {_MEANS.get(status, f'RunPod refused it ({status})')}: {said}".rstrip(": ")
    kind = AuthError if status in (401, 403) else Rejected
    return kind(words, advice=_ADVICE.get(status, ""))


_MEANS = {
    400: "RunPod finds the request wrong",
    401: "RunPod does not accept the API key",
    402: "the balance of this RunPod account is too low",
    403: "the API key may not do this",
    404: "RunPod does not know this",
    409: "this does not go with the state the pod is in",
    410: "RunPod has retired this interface",
    413: "the request is larger than RunPod accepts",
    422: "RunPod does not understand the request",
}

_ADVICE = {
    401: f"Make a new key in RunPod's console, then `{SETUP_COMMAND}`. A value in {KEY_NAME} goes before the kept one.",
    402: f"Add credit at {BILLING_PAGE}: a pod needs what an hour of it costs. Jobs go on with `gpujob resume`.",
    403: f"Give the key read and write access to pods in RunPod's console, or make a new one: `{SETUP_COMMAND}`.",
    404: "If the offer or the image is new or gone, plan again.",
    410: "A newer gpujob speaks the interface that took its place.",
    413: "This is a fault of gpujob; please report it.",
    422: "This is a fault of gpujob, or its contract has changed; please report it with this text.",
}


def _detail(reply: Reply) -> str:
    """What an error reply says of itself: RFC 9457 ``detail`` and ``errors``, or the beginning of its text."""
    try:
        value = reply.json()
    except Malformed:
        return ""  # an HTML page of some gateway says nothing to anybody
    if not isinstance(value, dict):
        return ""
    errors = value.get("errors") or ()
    parts = [
        str(value.get("detail") or value.get("title") or ""),
        *map(str, errors if isinstance(errors, list) else ()),
    ]
    return "; ".join(part for part in parts if part)[:1000]


def read_graphql(request: Request, reply: Reply) -> Mapping[str, Any]:
    """The ``data`` of a GraphQL reply, which is a 200 even where it refuses. Raises what the refusal means."""
    value = _object(reply.json())
    if errors := value.get("errors"):
        said = "; ".join(str(error.get("message", error)) for error in errors if isinstance(error, dict))[:1000]
        raise refusal(request, status_of(said), said)
    return _object(value.get("data"))


def status_of(said: str) -> int:
    """The status that REST has for a refusal of which GraphQL gives the text alone."""
    known = {"unauthorized": 401, "balance": 402, "spend limit": 402, "access denied": 403}
    return next((status for text, status in known.items() if text in said.lower()), 400)


def no_such_pod(text: str) -> bool:
    """Whether a refusal says that the pod does not exist: to whoever deletes it, that is success."""
    return _any_of(NO_SUCH_POD_TEXTS, text)


def _any_of(texts: Iterable[str], said: str) -> bool:
    return any(text in said.lower() for text in texts)


def _status(text: str) -> PodStatus:
    try:
        return PodStatus(text)
    except ValueError:
        raise Malformed(f"a pod with the unknown status {text!r}") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed("something else than an object where the contract has one")
    return value


def _list(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise Malformed(f"no list {name!r}")
    return found


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise Malformed(f"no text {name!r}")
    return found


def _number(value: Any) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise Malformed(f"{value!r} where the contract has a number") from None
    if not number.is_finite():
        raise Malformed(f"{value!r} where the contract has a number")
    return number


def _moment(value: Any) -> datetime | None:
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise Malformed(f"{value!r} where the contract has a time") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
