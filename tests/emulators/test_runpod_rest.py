"""The emulator keeps to REST v2: who may ask, what is refused, and a pod's life; without machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.emulators.runpod import RunPodEmulator, problems
from tests.emulators.runpod_kit import L4, ORDER, Client, refused

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
    paper = start(machines=False, quotas={"minute": 3, "hour": 100})
    api = Client(paper)
    assert [api("GET", "/v2/pods").status for _ in range(3)] == [200] * 3
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
    assert api.act(pod["id"], "start").body["status"] in ("STARTING", "RUNNING")
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
