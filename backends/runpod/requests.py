"""Requests to RunPod's REST v2 and GraphQL, as values. Pure: what is built here can be printed and tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backends.rented.calls import Request

SSH_PORT = "22/tcp"


@dataclass(frozen=True, slots=True)
class Wish:
    """A pod to be rented. Disk and RAM in whole GB (10^9 bytes), the bid of a spot pod in micro-dollars per GPU-hour.

    ``gpu`` is RunPod's id of the model, or ``cpu`` its id of the flavour with ``vcpus``. ``boot`` is a shell script,
    the first thing that runs there.
    """

    name: str
    image: str
    boot: str
    env: Mapping[str, str]
    disk_gb: int
    cloud: str = "SECURE"
    gpu: str | None = None
    gpu_count: int = 0
    cpu: str | None = None
    vcpus: int = 0
    data_centers: tuple[str, ...] = ()
    min_cuda: str = ""
    min_ram_per_gpu_gb: int = 0
    bid_micros: int | None = None


def list_pods() -> Request:
    """All pods of the account, ours or not."""
    return Request("GET", "/v2/pods", "listing pods")


def get_pod(pod: str) -> Request:
    """One pod."""
    return Request("GET", f"/v2/pods/{pod}", f"looking at pod {pod}")


def create_pod(wish: Wish) -> Request:
    """Rent a pod on demand.

    The entrypoint is ours: an image whose own one swallows its arguments would never start the deadline guard.
    ``env`` in front lets the script run also where only the arguments are replaced.
    """
    body: dict[str, Any] = {
        "name": wish.name,
        "image": wish.image,
        "entrypoint": ["/usr/bin/env"],
        "cmd": ["sh", "-c", wish.boot, "gpujob-boot"],
        "env": dict(wish.env),
        "ports": [SSH_PORT],
        "disk": wish.disk_gb,
        "cloud": wish.cloud,
    }
    if wish.data_centers:
        body["dataCenterIds"] = list(wish.data_centers)
    if wish.cpu:
        body["cpu"] = {"id": wish.cpu, "vcpuCount": wish.vcpus}
    else:
        body["gpu"] = _gpu(wish)
    return Request("POST", "/v2/pods", f"renting {wish.name}", body=body, rents=True)


def _gpu(wish: Wish) -> dict[str, Any]:
    gpu: dict[str, Any] = {"id": wish.gpu, "count": wish.gpu_count}
    if wish.min_cuda:
        gpu["minCudaVersion"] = wish.min_cuda
    if wish.min_ram_per_gpu_gb:
        gpu["minRamPerGpu"] = wish.min_ram_per_gpu_gb
    return gpu


def delete_pod(pod: str) -> Request:
    """Terminate a pod for good."""
    return Request("DELETE", f"/v2/pods/{pod}", f"terminating pod {pod}", urgent=True)


def gpu_catalog(cloud: str, count: int, min_cuda: str = "") -> Request:
    """GPU models with prices and, for ``count`` of them in ``cloud``, what is free."""
    query = {"include": "AVAILABILITY", "product": "POD", "cloud": cloud, "count": str(count)}
    if min_cuda:
        query["minCudaVersion"] = min_cuda
    return Request("GET", "/v2/catalog/gpus", "reading the GPU catalogue", query=query)


def cpu_catalog() -> Request:
    """CPU flavours with prices and what is free."""
    return Request(
        "GET", "/v2/catalog/cpus", "reading the CPU catalogue", query={"include": "AVAILABILITY", "product": "POD"}
    )


def pod_billing(pod: str, since: datetime) -> Request:
    """What RunPod charged for a pod, by the hour, from the hour of ``since`` on."""
    start = since.replace(minute=0, second=0, microsecond=0).isoformat().replace("+00:00", "Z")
    query = {"podId": pod, "startTime": start, "bucketSize": "hour"}
    return Request("GET", "/v2/billing/pods", f"reading the bill of pod {pod}", query=query)


def graphql(query: str, variables: Mapping[str, Any], doing: str, *, rents: bool = False) -> Request:
    """A GraphQL call, for what REST v2 has not got."""
    body = {"query": query, "variables": dict(variables)}
    return Request("POST", "/graphql", doing, body=body, rents=rents)
