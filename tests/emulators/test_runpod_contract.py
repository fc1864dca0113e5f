"""The emulator keeps to the contract: each rule of REST v2 and of the legacy API, without machines."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.emulators.runpod import DOCUMENTED, RunPodEmulator, problems
from tests.emulators.runpod_kit import L4, ORDER, Client, Reply, eventually

CONTRACT = next(
    (
        found
        for parent in Path(__file__).resolve().parents
        if (found := parent / "shared/contracts/runpod-rest-v2.openapi.json").exists()
    ),
    None,
)


def refused(reply: Reply, status: int, detail: str) -> None:
    """It is a problem document that says so."""
    assert reply.status == status, reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert (reply.body["status"], reply.body["detail"]) == (status, detail)
    assert reply.body["title"] == http.client.responses[status]


# --- who may ask, and how often ---


def test_without_a_key_or_with_a_wrong_one_nothing_is_answered(paper: RunPodEmulator) -> None:
    refused(Client(paper, "")("GET", "/v2/pods"), 401, "missing bearer token")
    refused(Client(paper, "rpa_WRONG")("GET", "/v2/pods"), 401, "invalid bearer token")


def test_every_answer_tells_what_is_left_of_the_quota(api: Client) -> None:
    first, second = api("GET", "/v2/pods"), api("GET", "/v2/pods/none")
    assert '"minute";r=5999;t=' in first.headers["RateLimit"]
    assert '"minute";r=5998;t=' in second.headers["RateLimit"]
    assert second.headers["RateLimit-Policy"] == '"minute";q=6000;w=60, "hour";q=100000;w=3600, "day";q=1000000;w=86400'


def test_the_quota_is_enforced_and_comes_back(start: Callable[..., RunPodEmulator]) -> None:
    paper = start(machines=False, quotas=dict(DOCUMENTED))
    api = Client(paper)
    assert [api("GET", "/v2/pods").status for _ in range(60)] == [200] * 60
    reply = api("GET", "/v2/pods")
    refused(reply, 429, "rate limit exceeded for the minute window")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert reply.headers["RateLimit"].startswith('"minute";r=0;')
    paper.advance(60)
    assert api("GET", "/v2/pods").status == 200


def test_a_pods_own_key_is_for_that_pod_alone(paper: RunPodEmulator, api: Client) -> None:
    mine, other = api.create()["id"], api.create()["id"]
    pod = Client(paper, paper.pod(mine).key)
    assert pod("GET", f"/v2/pods/{mine}").status == 200
    refused(pod("GET", f"/v2/pods/{other}"), 403, "access denied")
    refused(pod("GET", "/v2/pods"), 403, "access denied")
    refused(pod("POST", "/v2/pods", ORDER), 403, "access denied")
    refused(pod("PUT", "/v2/account/ssh-keys", {"keys": []}), 403, "access denied")
    assert pod.graphql("{ myself { id } }")["errors"][0]["message"] == "access denied"
    assert pod.act(mine, "stop").status == 200
    assert pod.act(mine, "terminate").status == 204
    assert pod("GET", f"/v2/pods/{mine}").status == 401


def test_a_pods_own_key_may_be_denied_to_terminate(start: Callable[..., RunPodEmulator]) -> None:
    paper = start(machines=False, pod_key_may_terminate=False)
    pod_id = Client(paper).create()["id"]
    pod = Client(paper, paper.pod(pod_id).key)
    refused(pod.act(pod_id, "terminate"), 403, "access denied")
    refused(pod("DELETE", f"/v2/pods/{pod_id}"), 403, "access denied")
    assert pod.act(pod_id, "stop").status == 200


# --- requests that are wrong ---


def test_unknown_and_malformed_fields_are_named(api: Client) -> None:
    reply = api("POST", "/v2/pods", ORDER | {"bogus": 1, "stopAfter": "x", "disk": 0, "gpu": {"id": L4, "size": 1}})
    refused(reply, 422, "Request validation failed.")
    assert reply.body["errors"] == [
        "$.disk: 0 is less than the minimum of 1",
        "$.gpu: additional properties 'size' not allowed",
        "$: additional properties 'bogus' not allowed",
        "$: additional properties 'stopAfter' not allowed",
    ]


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({"gpu": {"id": "NVIDIA ZX81"}}, 400, "gpu type 'NVIDIA ZX81' not found"),
        ({"cpu": {"id": "cpu5c", "vcpuCount": 2}}, 400, "exactly one of gpu or cpu must be set"),
        ({"templateId": "t"}, 404, "template not found"),
        (
            {"gpu": {"id": L4, "minCudaVersion": "12.4", "allowedCudaVersions": ["12.8"]}},
            400,
            "allowedCudaVersions and minCudaVersion are mutually exclusive",
        ),
        ({"gpu": {"id": L4, "minCudaVersion": "14.0"}}, 400, problems.NO_INSTANCES),
        ({"gpu": {"id": L4, "minRamPerGpu": 2000}}, 400, problems.NO_INSTANCES),
        ({"gpu": {"id": L4, "count": 9}}, 400, problems.NO_INSTANCES),
        ({"cloud": "COMMUNITY"}, 400, problems.NO_INSTANCES),
        ({"dataCenterIds": ["US-GA-1"]}, 400, problems.NO_INSTANCES),
    ],
)
def test_what_cannot_be_had_is_refused_in_the_providers_words(
    api: Client, changes: dict[str, Any], status: int, detail: str
) -> None:
    refused(api("POST", "/v2/pods", ORDER | changes), status, detail)
    assert not api.cloud.created


def test_an_image_is_required(api: Client) -> None:
    reply = api("POST", "/v2/pods", {"name": "x", "gpu": {"id": L4}})
    assert reply.body["errors"] == ["$: 'image' is a required property"]


def test_bodies_have_a_limit(api: Client) -> None:
    refused(
        api("POST", "/v2/pods", ORDER | {"env": {"X": "x" * 102_400}}), 413, "request body larger than 102400 bytes"
    )


def test_what_is_not_there_and_what_is_not_allowed(api: Client) -> None:
    refused(api("GET", "/v2/pods/none"), 404, "pod not found")
    refused(api("GET", "/v2/nothing"), 404, "resource not found")
    reply = api("PUT", "/v2/pods")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, POST")
    refused(api("POST", "/v2/pods", "{"), 400, "request body is not JSON")


def test_an_hour_of_it_must_be_in_the_account(start: Callable[..., RunPodEmulator]) -> None:
    poor = Client(start(machines=False, balance=0.38))
    refused(poor("POST", "/v2/pods", ORDER), 402, problems.LOW_BALANCE)
    limited = Client(start(machines=False, spend_limit_usd_h=0.5))
    limited.create()
    refused(limited("POST", "/v2/pods", ORDER), 403, problems.SPEND_LIMIT)


# --- a pod's life ---


def test_a_pod_provisions_starts_and_runs(start: Callable[..., RunPodEmulator]) -> None:
    paper = start(machines=False, provisioning_seconds=3600, starting_seconds=3600)
    api = Client(paper)
    pod = api.create()
    assert (pod["status"], pod["actions"]) == ("PROVISIONING", ["stop", "terminate"])
    assert (pod["runtime"], pod["ssh"], pod["startedAt"]) == ({}, {"proxy": None, "direct": None}, None)
    assert pod["cost"] == 0.39
    paper.settings.provisioning_seconds = 0
    pod = api.when(api.create()["id"], "STARTING")
    assert (pod["actions"], pod["runtime"]) == (["stop", "terminate"], None)
    assert pod["ssh"]["proxy"]["username"].startswith(pod["id"])
    assert pod["ssh"]["direct"] is None
    paper.settings.starting_seconds = 0
    pod = api.running()
    assert pod["actions"] == ["stop", "restart", "terminate"]
    (port,) = pod["runtime"]["ports"]
    assert port == {"private": 22, "public": pod["ssh"]["direct"]["port"], "type": "tcp", "ip": "127.0.0.1"}
    assert pod["gpu"] == {"id": L4, "count": 1, "vcpuCount": 8, "memory": 50}


def test_without_its_port_there_is_no_direct_ssh(api: Client) -> None:
    pod = api.running(ports=["8888/http"])
    assert pod["ssh"]["direct"] is None
    assert pod["runtime"]["ports"] == [{"private": 8888, "public": None, "type": "http", "ip": None}]


def test_stop_start_restart_terminate(api: Client) -> None:
    pod = api.running()
    seen = [pod["ssh"]["direct"]["port"]]
    stopped = api.act(pod["id"], "stop").body
    assert (stopped["status"], stopped["cost"], stopped["runtime"]) == ("EXITED", 0.0, None)
    assert stopped["actions"] == ["start", "terminate"]
    assert stopped["ssh"]["direct"] is None
    refused(api.act(pod["id"], "stop"), 409, "cannot stop a pod that is EXITED")
    assert api.act(pod["id"], "start").body["status"] == "STARTING"
    seen.append(api.when(pod["id"], "RUNNING")["ssh"]["direct"]["port"])
    refused(api.act(pod["id"], "start"), 409, "cannot start a pod that is RUNNING")
    assert api.act(pod["id"], "restart").status == 200
    seen.append(api.when(pod["id"], "RUNNING")["ssh"]["direct"]["port"])
    assert api("PATCH", f"/v2/pods/{pod['id']}", {"env": {"A": "b"}}).body["env"] == {"A": "b"}
    seen.append(api.when(pod["id"], "RUNNING")["ssh"]["direct"]["port"])
    assert len(set(seen)) == 4
    assert api.act(pod["id"], "terminate").status == 204
    refused(api("GET", f"/v2/pods/{pod['id']}"), 404, "pod not found")
    refused(api("DELETE", f"/v2/pods/{pod['id']}"), 404, "pod not found")
    assert api("GET", "/v2/pods").body == {"pods": []}
    reply = api("DELETE", f"/v2/pods/{api.create()['id']}")
    assert (reply.status, reply.body) == (204, None)


def test_a_rename_resets_nothing_and_a_lock_forbids_to_stop(api: Client) -> None:
    pod = api.running()
    renamed = api("PATCH", f"/v2/pods/{pod['id']}", {"name": "other", "locked": True}).body
    assert (renamed["name"], renamed["locked"], renamed["ssh"]) == ("other", True, pod["ssh"])
    refused(api.act(pod["id"], "stop"), 409, "pod is locked: cannot stop")
    assert api("PATCH", f"/v2/pods/{pod['id']}", {"ram": 1}).status == 422


def test_names_are_not_unique(api: Client) -> None:
    api.create(), api.create()
    assert [pod["name"] for pod in api("GET", "/v2/pods").body["pods"]] == [ORDER["name"]] * 2


def test_a_bigger_host_is_found_by_its_ram(api: Client) -> None:
    gpu = {"id": L4, "count": 2, "minRamPerGpu": 60, "allowedCudaVersions": ["12.8"]}
    pod = api.create(gpu=gpu, dataCenterIds=["EU-RO-1"])
    assert (pod["gpu"]["memory"], pod["gpu"]["count"], pod["cost"]) == (250, 2, 0.78)
    assert (pod["cudaVersion"], pod["dataCenterId"]) == ("12.8", "EU-RO-1")


def test_a_cpu_pod(api: Client) -> None:
    order = {name: value for name, value in ORDER.items() if name != "gpu"} | {"cpu": {"id": "cpu5g", "vcpuCount": 4}}
    pod = api("POST", "/v2/pods", order).body
    assert pod["cpu"] == {"id": "cpu5g", "vcpuCount": 4, "memory": 16}
    assert (pod["cost"], pod["cudaVersion"], "gpu" in pod) == (0.18, None, False)
    order["mounts"] = {"persistent": {"size": 10, "path": "/workspace"}}
    refused(api("POST", "/v2/pods", order), 400, "mounts.persistent is not supported on CPU pods")


def test_the_accounts_keys_are_replaced_as_a_whole(paper: RunPodEmulator, api: Client) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILXGDN/SclOozk1xsDztpmhGiKkkrfQB9SKoO8dSIQQZ me"
    assert api("PUT", "/v2/account/ssh-keys", {"keys": [key]}).body == {"keys": [key]}
    assert api("GET", "/v2/account/ssh-keys").body == {"keys": [key]}
    assert api("PUT", "/v2/account/ssh-keys", {"keys": ["nonsense"]}).status == 422
    assert paper.account_keys == [key]
    assert api.create(startSsh=True)["env"] == {"PUBLIC_KEY": key}
    assert api.create(startSsh=True, env={"PUBLIC_KEY": "mine"})["env"] == {"PUBLIC_KEY": "mine"}


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
        found = []
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


# --- the legacy API ---

DEPLOY = """mutation($input: PodFindAndDeployOnDemandInput) {
  podFindAndDeployOnDemand(input: $input) { id desiredStatus costPerHr env podType machine { gpuDisplayName } }
}"""
RENT = """mutation($input: PodRentInterruptableInput!) {
  podRentInterruptable(input: $input) { id desiredStatus costPerHr podType }
}"""
RTX4090 = "NVIDIA GeForce RTX 4090"
LEGACY_ORDER = {
    "name": "x", "imageName": "i", "gpuTypeId": RTX4090, "cloudType": "SECURE", "ports": "22/tcp",
    "env": [{"key": "A", "value": "b"}],
}  # fmt: skip


def test_graphql_rents_stops_resumes_and_terminates(paper: RunPodEmulator, api: Client) -> None:
    made = api.graphql(DEPLOY, input=LEGACY_ORDER | {"stopAfter": "2026-01-01T00:00:00Z"})
    pod = made["data"]["podFindAndDeployOnDemand"]
    assert (pod["costPerHr"], pod["podType"], pod["env"]) == (0.74, "RESERVED", ["A=b"])
    api.when(pod["id"], "RUNNING")
    query = f'{{ pod(input: {{podId: "{pod["id"]}"}}) {{ runtime {{ uptimeInSeconds ports {{ publicPort }} }} }} }}'
    seen = api.graphql(query)["data"]["pod"]
    assert seen["runtime"]["ports"][0]["publicPort"] == paper.ssh(pod["id"]).port
    stop = f'mutation {{ podStop(input: {{podId: "{pod["id"]}"}}) {{ desiredStatus }} }}'
    assert api.graphql(stop) == {"data": {"podStop": {"desiredStatus": "EXITED"}}}
    resume = f'mutation {{ podResume(input: {{podId: "{pod["id"]}", gpuCount: 1}}) {{ desiredStatus }} }}'
    assert api.graphql(resume)["data"]["podResume"]["desiredStatus"] == "RUNNING"
    end = f'mutation {{ podTerminate(input: {{podId: "{pod["id"]}"}}) }}'
    assert api.graphql(end) == {"data": {"podTerminate": None}}
    assert api.graphql(end)["errors"][0]["message"] == "pod not found to terminate"
    assert api.graphql(query)["data"]["pod"] is None


def test_a_spot_pod_is_rented_above_the_floor_and_can_be_taken_back(paper: RunPodEmulator, api: Client) -> None:
    low = api.graphql(RENT, input=LEGACY_ORDER | {"bidPerGpu": 0.1})
    assert (low["data"], low["errors"][0]["message"]) == ({"podRentInterruptable": None}, problems.NO_INSTANCES)
    pod = api.graphql(RENT, input=LEGACY_ORDER | {"bidPerGpu": 0.25})["data"]["podRentInterruptable"]
    assert (pod["costPerHr"], pod["podType"]) == (0.25, "INTERRUPTABLE")
    api.when(pod["id"], "RUNNING")
    paper.preempt(pod["id"])
    assert api.pod(pod["id"])["status"] == "EXITED"
    shown = api.graphql("{ myself { pods { desiredStatus lastStatusChange } } }")["data"]["myself"]["pods"][0]
    assert shown == {"desiredStatus": "EXITED", "lastStatusChange": "Exited by Runpod: outbid"}


def test_graphql_refuses_in_an_answer_that_is_200(paper: RunPodEmulator, api: Client) -> None:
    paper.faults.no_capacity(times=1)
    reply = api.graphql(DEPLOY, input=LEGACY_ORDER)
    assert reply["errors"][0]["message"] == problems.NO_INSTANCES
    assert reply["data"] == {"podFindAndDeployOnDemand": None}
    assert "Cannot query field 'nonsense'" in api.graphql("{ myself { nonsense } }")["errors"][0]["message"]
    assert Client(paper, "wrong")("POST", "/graphql", {"query": "{ myself { id } }"}).status == 401


def test_graphql_shows_the_account_and_the_gpu_types(paper: RunPodEmulator, api: Client) -> None:
    api.create()
    me = api.graphql("{ myself { clientBalance currentSpendPerHr spendLimit pubKey } }")["data"]["myself"]
    assert (me["currentSpendPerHr"], me["spendLimit"], me["pubKey"]) == (0.39, 80.0, "")
    assert 99 < me["clientBalance"] <= 100
    query = """{ gpuTypes(input: {id: "NVIDIA GeForce RTX 4090"}) { id memoryInGb secureSpotPrice
        lowestPrice(input: {gpuCount: 1, secureCloud: true}) { stockStatus minimumBidPrice uninterruptablePrice } } }"""
    assert api.graphql(query)["data"]["gpuTypes"] == [
        {
            "id": RTX4090, "memoryInGb": 24, "secureSpotPrice": 0.2,
            "lowestPrice": {"stockStatus": "High", "minimumBidPrice": 0.2, "uninterruptablePrice": 0.74},
        }
    ]  # fmt: skip


# --- faults of the API ---


def test_no_capacity_for_a_while_and_in_one_place(paper: RunPodEmulator, api: Client) -> None:
    paper.faults.no_capacity(times=1, gpu=L4, text=problems.NO_RESOURCES)
    refused(api("POST", "/v2/pods", ORDER), 400, problems.NO_RESOURCES)
    paper.faults.no_capacity(data_center="US-KS-2")
    assert api.create()["dataCenterId"] == "US-TX-3"
    refused(api("POST", "/v2/pods", ORDER | {"dataCenterIds": ["US-KS-2"]}), 400, problems.NO_INSTANCES)
    paper.faults.clear()
    paper.faults.forbidden(gpu=L4)
    refused(api("POST", "/v2/pods", ORDER), 403, "access denied")


def test_a_lost_reply_leaves_a_pod(paper: RunPodEmulator, api: Client) -> None:
    paper.faults.lost_reply()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        api("POST", "/v2/pods", ORDER)
    assert len(api("GET", "/v2/pods").body["pods"]) == 1
    assert [call.status for call in paper.requests if call.method == "POST"] == [0]


def test_errors_before_anything_is_done_leave_none(paper: RunPodEmulator, api: Client) -> None:
    paper.faults.server_errors(times=1, status=500, method="POST", path="/v2/pods")
    refused(api("POST", "/v2/pods", ORDER), 500, "internal server error")
    paper.faults.dropped_requests(method="POST")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        api("POST", "/v2/pods", ORDER)
    paper.faults.too_many_requests(times=2, retry_after=7)
    assert [api("GET", "/v2/pods").headers["Retry-After"] for _ in range(3)] == ["7", "7", None]
    assert not paper.created
    assert paper.faults.pending() == 0


def test_slow_replies_come_after_the_deed(paper: RunPodEmulator, api: Client) -> None:
    paper.faults.slow_replies(2.0, method="POST", path="/v2/pods")
    began = time.monotonic()
    api.create()
    assert time.monotonic() - began >= 2.0


def test_a_new_pod_is_missing_from_a_stale_list(paper: RunPodEmulator, api: Client) -> None:
    paper.faults.stale_list(seconds=3600)
    pod = api.create()["id"]
    assert api("GET", "/v2/pods").body == {"pods": []}
    assert api.pod(pod)["id"] == pod
    paper.faults.stale_list(seconds=0.5)
    second = api.create()["id"]
    eventually(lambda: [each["id"] for each in api("GET", "/v2/pods").body["pods"]] == [second], "the list to catch up")


def test_pods_that_never_get_anywhere(paper: RunPodEmulator, api: Client) -> None:
    paper.faults.never_ready(gpu=L4)
    pod = api.running()
    assert (pod["runtime"], pod["ssh"]["direct"], pod["cost"]) == (None, None, 0.39)
    paper.faults.stuck()
    assert api.when(api.create()["id"], "STARTING")["cost"] == 0.39
    paper.faults.error_status()
    broken = api.when(api.create()["id"], "ERROR")
    assert (broken["actions"], broken["cost"]) == (["start", "terminate"], 0.0)


def test_pods_that_end_by_themselves(paper: RunPodEmulator, api: Client) -> None:
    paper.faults.exits(after=0.1)
    api.when(api.create()["id"], "EXITED")
    pod = api.running()
    paper.exit_pod(pod["id"])
    assert api.pod(pod["id"])["status"] == "EXITED"
    paper.faults.preemption(after=0.1)
    spot = api.graphql(RENT, input=LEGACY_ORDER | {"bidPerGpu": 0.3})["data"]["podRentInterruptable"]
    api.when(spot["id"], "EXITED")


def test_a_stopped_pod_may_find_its_host_taken(paper: RunPodEmulator, api: Client) -> None:
    pod = api.running()["id"]
    api.act(pod, "stop")
    paper.faults.refuse_start()
    refused(api.act(pod, "start"), 400, problems.NO_FREE_GPUS)
    assert api.pod(pod)["status"] == "EXITED"


def test_the_providers_clock_may_be_wrong(paper: RunPodEmulator, api: Client) -> None:
    paper.clock.skew = 365 * 86400
    year = time.gmtime().tm_year + 1
    reply = api("POST", "/v2/pods", ORDER)
    assert str(year) in reply.headers["Date"] or str(year + 1) in reply.headers["Date"]
    assert int(reply.body["createdAt"][:4]) in (year, year + 1)
    assert paper.meter(reply.body["id"]).gpu < 0.1


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
