"""REST v2: each route as a function from a request to an answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.clock import parse_rfc3339
from tests.emulators.runpod import listing, schemas
from tests.emulators.runpod.fleet import Fleet
from tests.emulators.runpod.placing import Order
from tests.emulators.runpod.pods import Pod, document
from tests.emulators.runpod.problems import Problem


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request whose key is known: the account's, or one of the pod ``pod_id``."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    pod_id: str | None = None
    last_event_id: str | None = None


@dataclass(frozen=True)
class Answer:
    """A status with a JSON document, or none."""

    status: int
    document: Any = None


@dataclass(frozen=True)
class LogStream:
    """An answer that goes on: the pod's log lines after ``number``."""

    pod: Pod
    source: str | None
    number: int


Route = Callable[["Rest", Request, str], Answer | LogStream]


class Rest:
    """The routes below ``/v2``."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.catalog = fleet.settings.catalog

    def answer(self, request: Request) -> Answer | LogStream:
        """Find the route. Raises Problem 404, 405 or what the route raises."""
        found = [
            (method, route, match.group(1) if match.re.groups else "")
            for method, pattern, route in ROUTES
            if (match := re.fullmatch(pattern, request.path))
        ]
        for method, route, name in found:
            if method == request.method:
                self._authorize(request, name)
                return route(self, request, name)
        if not found:
            raise Problem(404, "resource not found")
        allowed = ", ".join(method for method, _, _ in found)
        raise Problem(405, "The requested method is not allowed for this path.", headers={"Allow": allowed})

    def _authorize(self, request: Request, name: str) -> None:
        """A pod's own key reads that pod, stops it, and terminates it where that is allowed. Raises Problem 403."""
        if request.pod_id is None:
            return
        own = request.path.startswith("/v2/pods/") and name == request.pod_id
        action = request.body.get("action") if isinstance(request.body, dict) else None
        terminates = request.method == "DELETE" or action == "terminate"
        allowed = request.method == "GET" or action == "stop"
        if not own or not (self.fleet.settings.pod_key_may_terminate if terminates else allowed):
            raise Problem(403, "access denied")

    # --- pods ---

    def list_pods(self, request: Request, _: str) -> Answer:
        return Answer(200, {"pods": [document(pod) for pod in self.fleet.listed()]})

    def create_pod(self, request: Request, _: str) -> Answer:
        schemas.check(request.body, schemas.CREATE_POD)
        order = order_of(request.body)
        return Answer(201, document(self.fleet.create(order, start_ssh=request.body.get("startSsh", False))))

    def get_pod(self, request: Request, name: str) -> Answer:
        return Answer(200, document(self.fleet.get(name)))

    def update_pod(self, request: Request, name: str) -> Answer:
        schemas.check(request.body, schemas.UPDATE_POD)
        pod = self.fleet.get(name)
        body = dict(request.body)
        if "templateId" in body:
            raise Problem(404, "template not found")
        mounts = body.pop("mounts", {})
        body.pop("globalNetworking", None)
        locked = body.pop("locked", None)
        if mounts and ("network" in mounts or not pod.order.volume):
            raise Problem(400, "the kind of a pod's mounts is fixed when it is created")
        if "persistent" in mounts:
            body |= {"volume": mounts["persistent"]["size"], "volume_path": mounts["persistent"]["path"]}
        self.fleet.update(pod, body, locked=locked)
        return Answer(200, document(pod))

    def delete_pod(self, request: Request, name: str) -> Answer:
        self.fleet.act(self.fleet.get(name), "terminate")
        return Answer(204)

    def pod_action(self, request: Request, name: str) -> Answer:
        schemas.check(request.body, schemas.ACTION)
        pod = self.fleet.get(name)
        self.fleet.act(pod, request.body["action"])
        return Answer(204) if request.body["action"] == "terminate" else Answer(200, document(pod))

    def pod_logs(self, request: Request, name: str) -> LogStream:
        pod = self.fleet.get(name)
        source = request.query.get("source")
        if source not in (None, "container", "system"):
            raise Problem(422, "Request validation failed.", errors=[f"source: {source!r} is not a log source"])
        return LogStream(pod, source, first_line(pod, request))

    # --- catalog, billing, account ---

    def list_gpus(self, request: Request, _: str) -> Answer:
        return Answer(200, {"gpus": listing.gpus(self.catalog, request.query)})

    def get_gpu(self, request: Request, name: str) -> Answer:
        gpu = self.catalog.gpu(name)
        if gpu is None:
            raise Problem(404, "gpu type not found")
        return Answer(200, listing.gpu(self.catalog, gpu, request.query))

    def list_cpus(self, request: Request, _: str) -> Answer:
        return Answer(200, {"cpus": listing.cpus(self.catalog, request.query)})

    def list_data_centers(self, request: Request, _: str) -> Answer:
        return Answer(200, {"dataCenters": listing.data_centers(self.catalog, request.query)})

    def pod_billing(self, request: Request, _: str) -> Answer:
        return Answer(200, listing.billing(self.fleet.created, self.fleet.clock.now(), request.query))

    def get_ssh_keys(self, request: Request, _: str) -> Answer:
        return Answer(200, {"keys": self.fleet.account_keys})

    def put_ssh_keys(self, request: Request, _: str) -> Answer:
        schemas.check(request.body, schemas.SSH_KEYS)
        self.fleet.account_keys = list(request.body["keys"])
        return Answer(200, {"keys": self.fleet.account_keys})


POD = r"/v2/pods/([^/]+)"
ROUTES: list[tuple[str, str, Route]] = [
    ("GET", r"/v2/pods", Rest.list_pods),
    ("POST", r"/v2/pods", Rest.create_pod),
    ("GET", POD, Rest.get_pod),
    ("PATCH", POD, Rest.update_pod),
    ("DELETE", POD, Rest.delete_pod),
    ("GET", POD + "/logs", Rest.pod_logs),
    ("POST", POD + "/action", Rest.pod_action),
    ("GET", r"/v2/catalog/gpus", Rest.list_gpus),
    ("GET", r"/v2/catalog/gpus/(.+)", Rest.get_gpu),
    ("GET", r"/v2/catalog/cpus", Rest.list_cpus),
    ("GET", r"/v2/catalog/datacenters", Rest.list_data_centers),
    ("GET", r"/v2/billing/pods", Rest.pod_billing),
    ("GET", r"/v2/account/ssh-keys", Rest.get_ssh_keys),
    ("PUT", r"/v2/account/ssh-keys", Rest.put_ssh_keys),
]


def order_of(body: dict[str, Any]) -> Order:
    """The order in a valid create request. Raises Problem 400 or 404 for rules that its schema cannot tell."""
    if ("gpu" in body) == ("cpu" in body):
        raise Problem(400, "exactly one of gpu or cpu must be set")
    if "templateId" in body:
        raise Problem(404, "template not found")
    mounts = body.get("mounts", {})
    if len(mounts) > 1:
        raise Problem(400, "mounts.persistent and mounts.network are mutually exclusive")
    if "network" in mounts:
        raise Problem(404 if mounts["network"] else 400, "network volume not found")
    same = ("name", "image", "cloud", "disk", "ports", "env", "args", "cmd", "entrypoint", "registry")
    given: dict[str, Any] = {name: body[name] for name in same if name in body}
    given["data_centers"] = body.get("dataCenterIds", [])
    if "persistent" in mounts:
        given |= {"volume": mounts["persistent"]["size"], "volume_path": mounts["persistent"]["path"]}
    if "cpu" in body:
        return Order(**given, cpu=body["cpu"]["id"], vcpus=body["cpu"]["vcpuCount"])
    gpu = body["gpu"]
    return Order(
        **given,
        gpu=gpu["id"],
        gpu_count=gpu.get("count", 1),
        cuda_versions=gpu.get("allowedCudaVersions", []),
        min_cuda=gpu.get("minCudaVersion"),
        min_ram=gpu.get("minRamPerGpu", 0),
        min_vcpus=gpu.get("minVcpuCountPerGpu", 0),
    )


def first_line(pod: Pod, request: Request) -> int:
    """The number of the line before the first that a log stream shows: by cursor, time or tail."""
    lines = pod.logs.after(0)
    if request.last_event_id:
        try:
            return int(request.last_event_id.rpartition("/")[2])
        except ValueError as error:
            raise Problem(422, "Request validation failed.", errors=["Last-Event-ID: not one of ours"]) from error
    try:
        if "since" in request.query:
            since = parse_rfc3339(request.query["since"])
            return sum(line.moment < since for line in lines)
        tail = int(request.query.get("tail", 100))
    except ValueError as error:
        raise Problem(422, "Request validation failed.", errors=[str(error)]) from error
    if not 0 <= tail <= 5000:
        raise Problem(422, "Request validation failed.", errors=["tail: must be between 0 and 5000"])
    return max(0, (lines[-1].number if lines else 0) - tail)
