"""Catalog, bills and logs of the emulator, and the contract's OpenAPI file; without machines."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.emulators.runpod import RunPodEmulator
from tests.emulators.runpod_kit import L4, ORDER, Client, refused

CONTRACT = next(
    (
        found
        for parent in Path(__file__).resolve().parents
        if (found := parent / "shared/contracts/runpod-rest-v2.openapi.json").exists()
    ),
    None,
)


# --- catalog ---


def test_the_catalog_has_placeholder_prices_where_nothing_is_offered(paper: RunPodEmulator, api: Client) -> None:
    gpus = {gpu["id"]: gpu for gpu in api("GET", "/v2/catalog/gpus").body["gpus"]}
    nvl = gpus["NVIDIA H200 NVL"]
    assert (nvl["community"], nvl["price"]["community"], nvl["maxCount"]["community"]) == (False, 0.5, 0)
    assert "availability" not in nvl
    shown = api("GET", "/v2/catalog/gpus/NVIDIA%20L4").body
    assert shown == gpus[L4]
    assert api("GET", "/v2/catalog/gpus/None").status == 404


def test_availability_is_by_count_cloud_and_place(paper: RunPodEmulator, api: Client) -> None:
    paper.catalog.set_stock(L4, "LOW")
    paper.catalog.set_stock(L4, "NONE", "US-KS-2")
    path = f"/v2/catalog/gpus/{L4.replace(' ', '%20')}?include=AVAILABILITY&product=POD"
    shown = api("GET", path).body
    assert shown["availability"] == "LOW"
    assert [place["id"] for place in shown["dataCenters"]] == ["US-TX-3", "EU-RO-1"]
    assert {"version": "12.8", "available": True} in shown["cudaVersions"]
    assert api("GET", path + "&cloud=COMMUNITY").body["availability"] == "NONE"
    assert "dataCenters" not in api("GET", path + "&count=9").body
    assert [place["id"] for place in api("GET", path + "&countryCodes=RO").body["dataCenters"]] == ["EU-RO-1"]
    assert [each["version"] for each in api("GET", path + "&minCudaVersion=13").body["cudaVersions"]] == ["13.0"]
    refused(api("GET", "/v2/catalog/gpus?include=AVAILABILITY"), 400, "product is required with include=AVAILABILITY")
    assert api("GET", "/v2/catalog/gpus?product=POD").status == 400
    assert api("GET", "/v2/catalog/gpus?include=PRICES").status == 422


def test_data_centers_and_cpus_are_listed(api: Client) -> None:
    places = api("GET", "/v2/catalog/datacenters?regions=EUROPE&include=GPU_AVAILABILITY").body["dataCenters"]
    assert [place["id"] for place in places] == ["EU-RO-1", "EU-SE-1"]
    assert {"id": L4, "name": "L4", "availability": "HIGH"} in places[0]["gpuAvailability"]
    assert [cpu["id"] for cpu in api("GET", "/v2/catalog/cpus").body["cpus"]] == ["cpu3c", "cpu5c", "cpu5g"]


# --- money ---


def test_the_meter_counts_compute_and_disk_by_the_second(paper: RunPodEmulator, api: Client) -> None:
    pod = api.running(disk=30, mounts={"persistent": {"size": 60, "path": "/workspace"}})
    before = paper.meter(pod["id"])
    paper.advance(7200)
    ran = paper.meter(pod["id"])
    assert ran.gpu - before.gpu == pytest.approx(0.78, rel=0.05)
    assert ran.disk - before.disk == pytest.approx(2 / 720 * 90 * 0.10, rel=0.05)
    api.act(pod["id"], "stop")
    stopped = paper.meter(pod["id"])
    paper.advance(720 * 3600)
    assert paper.meter(pod["id"]).gpu == stopped.gpu
    assert paper.meter(pod["id"]).disk - stopped.disk == pytest.approx(60 * 0.20, rel=0.01)
    api.act(pod["id"], "terminate")
    ended = paper.meter(pod["id"])
    paper.advance(3600)
    assert paper.meter(pod["id"]) == ended
    assert paper.balance() == pytest.approx(100 - ended.total)


def test_bills_come_in_buckets_that_add_up(paper: RunPodEmulator, api: Client) -> None:
    first, second = api.create()["id"], api.create()["id"]
    paper.advance(3 * 3600)
    for each in (first, second):
        api.act(each, "terminate")
    bill = api("GET", f"/v2/billing/pods?podId={first}&bucketSize=hour&lastN=5").body
    assert len(bill["records"]) in (4, 5)
    assert {record["podId"] for record in bill["records"]} == {first}
    assert sum(record["totalAmount"] for record in bill["records"]) == pytest.approx(paper.meter(first).total)
    assert bill["metadata"]["totals"]["totalAmount"] == pytest.approx(paper.meter(first).total)
    assert bill["metadata"]["query"]["podId"] == first
    both = api("GET", "/v2/billing/pods").body
    assert both["metadata"]["uniquePodCount"] == 2
    assert both["metadata"]["totals"]["gpuAmount"] == pytest.approx(6 * 0.39, rel=0.05)
    assert api("GET", "/v2/billing/pods?bucketSize=fortnight").status == 422
    assert api("GET", "/v2/billing/pods?lastN=1&startTime=2026-01-01T00:00:00Z").status == 400


def test_without_credit_everything_ends(start: Callable[..., RunPodEmulator]) -> None:
    paper = start(machines=False, balance=1.0)
    api = Client(paper)
    pod = api.create()["id"]
    paper.advance(3 * 3600)
    assert not paper.pods()
    refused(api("GET", f"/v2/pods/{pod}"), 404, "pod not found")


# --- logs ---


def test_logs_stream_and_resume(paper: RunPodEmulator, api: Client) -> None:
    pod_id = api.running()["id"]
    logs = paper.pod(pod_id).logs
    for number in range(150):
        logs.add(paper.clock.now(), "container", f"line {number}")

    def read(query: str, count: int, **headers: str) -> list[tuple[str, dict[str, str]]]:
        connection = http.client.HTTPConnection(paper.url.removeprefix("http://"), timeout=60)
        connection.request(
            "GET", f"/v2/pods/{pod_id}/logs{query}", None, {"Authorization": f"Bearer {api.key}"} | headers
        )
        answer = connection.getresponse()
        assert answer.headers["Content-Type"] == "text/event-stream"
        found: list[tuple[str, dict[str, str]]] = []
        while len(found) < count:
            line = answer.readline().decode().strip()
            if line.startswith("id: "):
                found.append((line[4:], json.loads(answer.readline().decode().removeprefix("data: "))))
        answer.close()
        connection.close()
        return found

    events = read("?source=container", 100)
    assert [event["line"] for _, event in events] == [f"line {number}" for number in range(50, 150)]
    assert set(events[0][1]) == {"ts", "source", "line"}
    assert [event["line"] for _, event in read("?tail=2", 2)] == ["line 148", "line 149"]
    resumed = read("", 1, **{"Last-Event-ID": events[-2][0]})
    assert resumed[0][1]["line"] == "line 149"
    assert read("?source=system&tail=5000", 1)[0][1]["line"].startswith("PROVISIONING")
    assert api("GET", f"/v2/pods/{pod_id}/logs?tail=5001").status == 422


# --- the contract itself ---


@pytest.mark.skipif(CONTRACT is None, reason="NOT TESTED: the OpenAPI file of the contract is not here")
def test_answers_and_requests_follow_the_openapi_file(paper: RunPodEmulator, api: Client) -> None:
    assert CONTRACT
    contract = json.loads(CONTRACT.read_text())

    def valid(name: str, document: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": contract["components"]}
        assert [error.message for error in Draft202012Validator(schema).iter_errors(document)] == []

    order = ORDER | {
        "gpu": {"id": L4, "count": 1, "minRamPerGpu": 60, "minVcpuCountPerGpu": 4, "minCudaVersion": "12.4"},
        "mounts": {"persistent": {"size": 10, "path": "/workspace"}}, "disk": 20, "env": {"A": "b"}, "startSsh": False,
        "cmd": ["bash"], "dataCenterIds": ["US-TX-3"], "cloud": "SECURE",
    }  # fmt: skip
    valid("CreatePodRequest", order)
    reply = api("POST", "/v2/pods", order)
    valid("Pod", reply.body)
    valid("Pod", api.when(reply.body["id"], "RUNNING"))
    valid("Pod", api.act(reply.body["id"], "stop").body)
    valid("ListPodsResponse", api("GET", "/v2/pods").body)
    valid("ListGpuTypesResponse", api("GET", "/v2/catalog/gpus?include=AVAILABILITY&product=POD").body)
    valid("ListCpuTypesResponse", api("GET", "/v2/catalog/cpus?include=AVAILABILITY&product=POD").body)
    valid("ListDataCentersResponse", api("GET", "/v2/catalog/datacenters?include=GPU_AVAILABILITY").body)
    valid("ListPodBillingResponse", api("GET", "/v2/billing/pods").body)
    valid("SshKeys", api("GET", "/v2/account/ssh-keys").body)
    valid("ErrorResponse", api("POST", "/v2/pods", {"bogus": 1}).body)
