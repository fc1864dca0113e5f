"""The legacy GraphQL API: every refusal is an ``errors`` entry in an HTTP 200."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphql import GraphQLError, build_schema, graphql_sync

from tests.emulators.runpod import problems
from tests.emulators.runpod.catalog import PLACEHOLDER_USD_H, Catalog, Cloud, GpuType
from tests.emulators.runpod.fleet import Fleet
from tests.emulators.runpod.placing import Order
from tests.emulators.runpod.pods import Pod, runtime_port
from tests.emulators.runpod.problems import Problem

SCHEMA = build_schema(Path(__file__).with_name("schema.graphql").read_text())
STOCK = {"NONE": None, "LOW": "Low", "MEDIUM": "Medium", "HIGH": "High"}
STATUSES = {"EXITED": "EXITED", "ERROR": "EXITED", "TERMINATED": "TERMINATED"}
Document = dict[str, Any]


class Legacy:
    """Queries and mutations; the names of the methods of :class:`_Root` are the API's."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def answer(self, body: Any, pod_id: str | None) -> Document:
        """Execute ``{"query", "variables"}``; ``pod_id``: the pod whose scoped key was sent."""
        if not isinstance(body, dict) or not isinstance(body.get("query"), str):
            return {"errors": [{"message": "Must provide query string."}]}
        root = _Root(self.fleet, pod_id)
        done = graphql_sync(
            SCHEMA, body["query"], root_value=root, variable_values=body.get("variables"),
            operation_name=body.get("operationName"),
        )  # fmt: skip
        return dict(done.formatted)


class _Root:
    def __init__(self, fleet: Fleet, pod_id: str | None) -> None:
        self._fleet = fleet
        self._own = pod_id

    # --- queries ---

    def pod(self, _: object, input: Document | None = None) -> Document | None:  # noqa: A002
        wanted = (input or {}).get("podId")
        self._authorize(wanted)
        return next((pod_document(pod) for pod in self._fleet.pods() if pod.id == wanted), None)

    def myself(self, _: object) -> Document:
        self._authorize(None)
        fleet = self._fleet
        return {
            "id": "user_emulated", "email": "someone@example.com", "pubKey": "\n".join(fleet.account_keys),
            "clientBalance": fleet.balance(), "currentSpendPerHr": fleet.spend_usd_h(),
            "spendLimit": fleet.settings.spend_limit_usd_h, "networkVolumes": [],
            "pods": lambda _: [pod_document(pod) for pod in fleet.listed()],
        }  # fmt: skip

    def gpuTypes(self, _: object, input: Document | None = None) -> list[Document]:  # noqa: A002
        catalog = self._fleet.settings.catalog
        wanted = (input or {}).get("id")
        return [gpu_document(catalog, gpu) for gpu in catalog.gpus if wanted in (None, gpu.id)]

    # --- mutations ---

    def podFindAndDeployOnDemand(self, _: object, input: Document) -> Document | None:  # noqa: A002
        return self._create(input, None)

    def podRentInterruptable(self, _: object, input: Document) -> Document | None:  # noqa: A002
        return self._create(input, input["bidPerGpu"])

    def _create(self, given: Document, bid: float | None) -> Document | None:
        self._authorize(None)
        if self._fleet.faults.take("silent null"):
            return None
        order = order_of(given, bid, self._fleet.settings.catalog)
        try:
            return pod_document(self._fleet.create(order, start_ssh=bool(given.get("startSsh"))))
        except Problem as problem:
            raise GraphQLError(problem.detail) from problem

    def podStop(self, _: object, input: Document) -> Document:  # noqa: A002
        return self._act(input["podId"], "stop")

    def podResume(self, _: object, input: Document) -> Document:  # noqa: A002
        return self._act(input["podId"], "start")

    def podBidResume(self, _: object, input: Document) -> Document:  # noqa: A002
        pod = self._find(input["podId"], problems.POD_NOT_FOUND)
        gpu = pod.place.gpu
        if gpu is None or gpu.spot is None or input["bidPerGpu"] < gpu.spot:
            raise GraphQLError(problems.NO_FREE_GPUS)
        return self._act(pod.id, "start")

    def podTerminate(self, _: object, input: Document) -> None:  # noqa: A002
        self._find(input["podId"], problems.NOTHING_TO_TERMINATE)
        if self._own and not self._fleet.settings.pod_key_may_terminate:
            raise GraphQLError("access denied")
        self._act(input["podId"], "terminate")

    def _act(self, pod_id: str, action: str) -> Document:
        pod = self._find(pod_id, problems.POD_NOT_FOUND)
        try:
            self._fleet.act(pod, action)
        except Problem as problem:
            raise GraphQLError(problem.detail) from problem
        return pod_document(pod)

    def _find(self, pod_id: str, otherwise: str) -> Pod:
        self._authorize(pod_id)
        for pod in self._fleet.pods():
            if pod.id == pod_id:
                return pod
        raise GraphQLError(otherwise)

    def _authorize(self, pod_id: str | None) -> None:
        """A pod's own key is for that pod alone."""
        if self._own is not None and self._own != pod_id:
            raise GraphQLError("access denied")


def order_of(given: Document, bid: float | None, catalog: Catalog) -> Order:
    """The order in a create mutation. Cloud ALL takes the cheaper of those that offer the GPU."""
    gpu = catalog.gpu(given.get("gpuTypeId") or "")
    ports = given.get("ports") or ""
    return Order(
        name=given.get("name") or "",
        image=given.get("imageName") or "",
        cloud=_cloud(given.get("cloudType") or "ALL", gpu),
        gpu=given.get("gpuTypeId"),
        gpu_count=given.get("gpuCount") or 1,
        data_centers=[given["dataCenterId"]] if given.get("dataCenterId") else [],
        disk=given.get("containerDiskInGb") or 20,
        volume=given.get("volumeInGb") or 0,
        volume_path=given.get("volumeMountPath") or "/workspace",
        ports=ports.split(",") if ports else [],
        env={each["key"]: each["value"] for each in given.get("env") or []},
        args=given.get("dockerArgs") or "",
        min_ram=given.get("minMemoryInGb") or given.get("minMemoryInGB") or 0,
        min_vcpus=given.get("minVcpuCount") or 0,
        cuda_versions=given.get("allowedCudaVersions") or [],
        bid=bid,
    )


def _cloud(asked: str, gpu: GpuType | None) -> Cloud:
    if asked != "ALL" or gpu is None:
        return "COMMUNITY" if asked == "COMMUNITY" else "SECURE"
    if gpu.secure is None or (gpu.community is not None and gpu.community < gpu.secure):
        return "COMMUNITY"
    return "SECURE"


def pod_document(pod: Pod) -> Document:
    """The pod as GraphQL shows it."""
    order, gpu = pod.order, pod.place.gpu
    return {
        "id": pod.id, "name": order.name, "imageName": order.image,
        "desiredStatus": STATUSES.get(pod.status, "RUNNING"), "lastStatusChange": pod.why, "costPerHr": pod.usd_h,
        "adjustedCostPerHr": pod.usd_h, "machineId": f"m{pod.id}", "runtime": _runtime(pod),
        "machine": {
            "podHostId": f"{pod.id}-64410000", "gpuDisplayName": gpu.name if gpu else None,
            "dataCenterId": pod.place.data_center,
        },
        "env": [f"{key}={value}" for key, value in order.env.items()], "dockerArgs": order.args, "dockerId": None,
        "gpuCount": order.gpu_count if gpu else 0, "memoryInGb": pod.place.ram_gb, "vcpuCount": pod.place.vcpus,
        "podType": "INTERRUPTABLE" if pod.spot else "RESERVED", "port": None, "ports": ",".join(order.ports),
        "uptimeSeconds": 0, "volumeInGb": order.volume, "volumeMountPath": order.volume_path,
        "containerDiskInGb": order.disk,
    }  # fmt: skip


def _runtime(pod: Pod) -> Document | None:
    if not pod.up:
        return None
    ports = [runtime_port(pod, port) for port in pod.order.ports]
    return {
        "uptimeInSeconds": pod.uptime(),
        "ports": [
            {
                "ip": port["ip"], "isIpPublic": port["ip"] is not None, "privatePort": port["private"],
                "publicPort": port["public"], "type": port["type"],
            }
            for port in ports
        ],
        "gpus": [
            {"id": f"GPU-{index}", "gpuUtilPercent": percent, "memoryUtilPercent": memory}
            for index, (percent, memory) in enumerate(pod.gpu_use())
        ],
    }  # fmt: skip


def gpu_document(catalog: Catalog, gpu: GpuType) -> Document:
    """A GPU type with its prices; a cloud that does not offer it has a placeholder."""

    def lowest_price(_: object, input: Document | None = None) -> Document:  # noqa: A002
        asked = input or {}
        count = asked.get("gpuCount") or 1
        cloud: Cloud = "COMMUNITY" if asked.get("secureCloud") is False else "SECURE"
        levels = [catalog.level(gpu, place, count) for place in catalog.places(gpu, cloud, count)]
        return {
            "stockStatus": STOCK[levels[0]] if levels else None,
            "minimumBidPrice": gpu.spot if levels else None,
            "uninterruptablePrice": gpu.price(cloud) if levels else None,
            "availableGpuCounts": list(range(1, gpu.max_count + 1)) if levels else [],
        }

    return {
        "id": gpu.id, "displayName": gpu.name, "manufacturer": gpu.manufacturer, "memoryInGb": gpu.memory_gb,
        "cudaCores": 0, "maxGpuCount": gpu.max_count, "secureCloud": gpu.secure is not None,
        "communityCloud": gpu.community is not None, "securePrice": gpu.secure or PLACEHOLDER_USD_H,
        "communityPrice": gpu.community or PLACEHOLDER_USD_H, "secureSpotPrice": gpu.spot,
        "communitySpotPrice": gpu.spot, "lowestPrice": lowest_price,
    }  # fmt: skip
