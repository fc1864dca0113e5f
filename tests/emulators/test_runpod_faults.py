"""Each fault of the emulator does what it says; without machines."""

from __future__ import annotations

import http.client
import json
import time

import pytest

from tests.emulators.runpod import RunPodEmulator, problems
from tests.emulators.runpod_kit import L4, LEGACY_ORDER, ORDER, RENT, Client, eventually, refused


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
    paper.faults.server_errors(status=502, html=True)
    with pytest.raises(json.JSONDecodeError):
        api("GET", "/v2/pods")
    paper.faults.silent_null()
    rent = RENT.replace("podType", "id")
    assert api.graphql(rent, input=LEGACY_ORDER | {"bidPerGpu": 0.3}) == {"data": {"podRentInterruptable": None}}
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
