"""The read-only lists of REST v2: catalog, data centers, billing; pure functions of what there is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.emulators.clock import parse_rfc3339, rfc3339
from tests.emulators.runpod.billing import Amounts, bucket_end, bucket_start, buckets
from tests.emulators.runpod.catalog import CLOUDS, PLACEHOLDER_USD_H, Catalog, Cloud, DataCenter, GpuType
from tests.emulators.runpod.placing import numeric
from tests.emulators.runpod.pods import Pod
from tests.emulators.runpod.problems import Problem

BUCKETS = ("hour", "day", "week", "month", "year")
SCOPES = ("product", "count", "cloud", "countryCodes", "cudaVersions", "minCudaVersion")
"""Filters that make sense only for availability."""
Query = dict[str, str]


def gpus(catalog: Catalog, query: Query) -> list[dict[str, Any]]:
    """All GPU types; with countryCodes only those that can be had there."""
    shown = [gpu(catalog, each, query) for each in catalog.gpus]
    return [each for each in shown if "countryCodes" not in query or "dataCenters" in each]


def gpu(catalog: Catalog, kind: GpuType, query: Query) -> dict[str, Any]:
    """One GPU type. The price of a cloud that does not offer it is a placeholder, as in the real list."""
    shown: dict[str, Any] = {
        "id": kind.id, "name": kind.name, "pool": kind.pool, "manufacturer": kind.manufacturer,
        "memory": kind.memory_gb, "secure": kind.secure is not None, "community": kind.community is not None,
        "price": {cloud.lower(): _price(kind, cloud) for cloud in CLOUDS},
        "maxCount": {cloud.lower(): kind.max_count if kind.price(cloud) else 0 for cloud in CLOUDS},
    }  # fmt: skip
    return shown | _availability(catalog, kind, query) if wants_availability(query) else shown


def _price(kind: GpuType, cloud: Cloud) -> float:
    price = kind.price(cloud)
    return PLACEHOLDER_USD_H if price is None else price


def wants_availability(query: Query) -> bool:
    """Whether availability is asked for. Raises Problem 400 or 422 for filters that do not go together."""
    include = query.get("include")
    if include not in (None, "AVAILABILITY"):
        raise _invalid(f"include: {include!r} is not supported")
    for name in SCOPES:
        if include is None and name in query:
            raise Problem(400, f"{name} is valid only with include=AVAILABILITY")
    if include and "product" not in query:
        raise Problem(400, "product is required with include=AVAILABILITY")
    if set(query.get("product", "POD").split(",")) - {"POD", "CLUSTER", "SERVERLESS"}:
        raise _invalid(f"product: {query['product']!r} is not a product")
    if "cudaVersions" in query and "minCudaVersion" in query:
        raise Problem(400, "cudaVersions and minCudaVersion are mutually exclusive")
    return include is not None


def _availability(catalog: Catalog, kind: GpuType, query: Query) -> dict[str, Any]:
    count, cloud = _count(query), _cloud(query)
    versions = [version for version in kind.cuda_versions if _cuda_fits(version, query)]
    places = catalog.places(kind, cloud, count) if versions or not kind.cuda_versions else []
    if "countryCodes" in query:
        places = [place for place in places if place.country in query["countryCodes"].split(",")]
    levels = [catalog.level(kind, place, count) for place in places]
    shown: dict[str, Any] = {"availability": max(levels, key=["NONE", "LOW", "MEDIUM", "HIGH"].index, default="NONE")}
    if places:
        shown["dataCenters"] = [
            {"id": place.id, "name": place.name, "availability": level}
            for place, level in zip(places, levels, strict=True)
        ]
    if versions:
        shown["cudaVersions"] = [{"version": version, "available": bool(places)} for version in versions]
    return shown


def _count(query: Query) -> int:
    count = query.get("count", "1")
    if not count.isdigit() or int(count) < 1:
        raise _invalid(f"count: {count!r} is not a number of GPUs")
    return int(count)


def _cloud(query: Query) -> Cloud:
    for cloud in CLOUDS:
        if query.get("cloud", "SECURE") == cloud:
            return cloud
    raise _invalid(f"cloud: {query['cloud']!r} is not a cloud")


def _cuda_fits(version: str, query: Query) -> bool:
    try:
        if "minCudaVersion" in query:
            return numeric(version) >= numeric(query["minCudaVersion"])
    except ValueError as error:
        raise _invalid("minCudaVersion: not a version") from error
    return "cudaVersions" not in query or version in query["cudaVersions"].split(",")


def _invalid(line: str) -> Problem:
    return Problem(422, "Request validation failed.", errors=[line])


def cpus(catalog: Catalog, query: Query) -> list[dict[str, Any]]:
    """All CPU flavors."""
    shown = [
        {
            "id": cpu.id, "name": cpu.name, "group": cpu.group, "vcpu": {"min": 2, "max": cpu.most_vcpus},
            "ramGbPerVcpu": cpu.ram_gb_per_vcpu,
            "price": {"securePerVcpu": cpu.usd_h_per_vcpu, "serverlessPerVcpu": cpu.usd_h_per_vcpu},
        }
        for cpu in catalog.cpus
    ]  # fmt: skip
    if wants_availability(query):
        places = [_place(each, "HIGH") for each in catalog.data_centers if each.cloud == "SECURE"]
        return [each | {"availability": "HIGH", "dataCenters": places} for each in shown]
    return shown


def _place(place: DataCenter, level: str) -> dict[str, str]:
    return {"id": place.id, "name": place.name, "availability": level}


def data_centers(catalog: Catalog, query: Query) -> list[dict[str, Any]]:
    """All data centers, or those of some regions; with their GPUs' availability if asked for."""
    regions = query["regions"].split(",") if "regions" in query else None
    shown = []
    for place in catalog.data_centers:
        if regions is None or place.region in regions:
            one: dict[str, Any] = {
                "id": place.id, "name": place.name, "region": place.region, "globalNetwork": False,
                "networkVolumeTypes": [], "compliance": [],
            }  # fmt: skip
            if "GPU_AVAILABILITY" in query.get("include", "").split(","):
                one["gpuAvailability"] = [
                    {"id": each.id, "name": each.name, "availability": catalog.level(each, place)}
                    for each in catalog.gpus
                    if each.price(place.cloud) is not None
                ]
            shown.append(one)
    return shown


def billing(pods: Iterable[Pod], now: float, query: Query) -> dict[str, Any]:
    """GET /v2/billing/pods: one record per pod and bucket in which it cost anything, and their sum."""
    size = query.get("bucketSize", "day")
    if size not in BUCKETS:
        raise _invalid(f"bucketSize: {size!r} is not one of {', '.join(BUCKETS)}")
    start, end = _window(query, size, now)
    records = []
    total = Amounts()
    for pod in pods:
        if query.get("podId") in (None, pod.id):
            for since, until in buckets(start, end, size):
                amounts = pod.meter.amounts(now, since, until)
                if amounts != Amounts():
                    total += amounts
                    span = {"startTime": rfc3339(since), "endTime": rfc3339(until)}
                    records.append(span | {"podId": pod.id} | amounts.document())
    asked: dict[str, Any] = {"startTime": rfc3339(start), "endTime": rfc3339(end), "bucketSize": size}
    if "podId" in query:
        asked["podId"] = query["podId"]
    return {
        "records": records,
        "metadata": {
            "query": asked, "recordCount": len(records), "uniquePodCount": len({each["podId"] for each in records}),
            "totals": total.document(),
        },
    }  # fmt: skip


def _window(query: Query, size: str, now: float) -> tuple[float, float]:
    """Start and end, widened to whole buckets."""
    if "lastN" in query and ("startTime" in query or "endTime" in query):
        raise Problem(400, "lastN and startTime/endTime are mutually exclusive")
    try:
        end = parse_rfc3339(query["endTime"]) if "endTime" in query else now
        start = parse_rfc3339(query["startTime"]) if "startTime" in query else end - 30 * 86400
        back = int(query.get("lastN", 1)) - 1
    except ValueError as error:
        raise _invalid(str(error)) from error
    first = bucket_start(start, size)
    if "lastN" in query:
        first = bucket_start(now, size)
        for _ in range(back):
            first = bucket_start(first.timestamp() - 1, size)
    last = bucket_start(end, size)
    return first.timestamp(), (last if last.timestamp() == end else bucket_end(last, size)).timestamp()
