"""What RunPod's answers mean, told without a network; and the rate limit that all jobs share."""

from __future__ import annotations

import json

import httpx
import pytest

from backends.addresses import checked_address
from backends.base import AuthError, Lost, NoCapacity, Rejected, Transient
from backends.rented.calls import Malformed, Reply
from backends.runpod.catalog import read_flavours, read_stock
from backends.runpod.client import Client
from backends.runpod.quota import Quota
from backends.runpod.replies import (
    micros,
    problem,
    read_bill,
    read_graphql,
    read_graphql_pod,
    read_pod,
    read_pods,
)
from backends.runpod.requests import Wish, create_pod, delete_pod, gpu_catalog, graphql, list_pods
from backends.runpod.settings import Settings
from tests.emulators.runpod import problems, schemas

POD = {
    "id": "7h9k2m4n6p", "name": "pytorch", "status": "RUNNING", "env": {"A": "b"}, "dataCenterId": "US-KS-2",
    "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 2}, "cost": 0.44, "runtime": {"uptime": 3},
    "ssh": {"proxy": None, "direct": {"host": "1.2.3.4", "port": 10022, "username": "root", "command": "ssh ..."}},
    "createdAt": "2026-06-01T12:00:00Z", "startedAt": "2026-06-01T12:01:00Z",
}  # fmt: skip
WISH = Wish("gpujob-k-a1", "me/img:cu128", "echo", {"A": "b"}, 30, gpu="NVIDIA L4", gpu_count=1)
CREATE, LIST = create_pod(WISH), list_pods()


def reply(status: int, body: object = None, **headers: str) -> Reply:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, given, body if isinstance(body, bytes) else json.dumps(body).encode())


def detail(text: str, **more: object) -> dict[str, object]:
    return {"title": "x", "status": 0, "detail": text, **more}


@pytest.mark.parametrize(
    ("request_", "answer", "kind", "words", "advice"),
    [
        (CREATE, reply(400, detail(problems.NO_INSTANCES)), NoCapacity, "no longer any instances", ""),
        (CREATE, reply(400, detail(problems.NO_DISK)), NoCapacity, "enough disk space", ""),
        (CREATE, reply(400, detail(problems.NO_FREE_GPUS)), NoCapacity, "free GPUs", ""),
        (CREATE, reply(400, detail(problems.NO_RESOURCES)), NoCapacity, "resources", ""),
        (CREATE, reply(400, detail("exactly one of gpu or cpu must be set")), Rejected, "exactly one", ""),
        (CREATE, reply(401, detail("bad key")), AuthError, "does not accept the API key", "backends setup runpod"),
        (CREATE, reply(402, detail("balance")), Rejected, "balance of this RunPod account", "Add credit"),
        (CREATE, reply(403, detail("no access")), NoCapacity, "may not rent that", "read and write"),
        (LIST, reply(403, detail("no access")), AuthError, "the API key may not do this", "read and write"),
        (LIST, reply(409, detail("is EXITED")), Rejected, "state the pod is in", ""),
        (LIST, reply(410, detail("gone")), Rejected, "retired", "newer gpujob"),
        (CREATE, reply(413, detail("too large")), Rejected, "larger", "report"),
        (CREATE, reply(422, detail("invalid", errors=["$.gpu: no id"])), Rejected, r"\$.gpu: no id", "report"),
        (CREATE, reply(429, detail("slow down"), retry_after="9"), Transient, "asks to wait 9 s", ""),
        (LIST, reply(503, b"<html>bad gateway</html>"), Transient, "503$", ""),
        (CREATE, reply(503, b"<html>bad gateway</html>"), Lost, "503$", ""),
        (CREATE, reply(500, detail("oops")), Lost, "oops", ""),
        (LIST, reply(302, b""), Transient, "302", ""),
    ],
)  # fmt: skip
def test_each_refusal_says_what_to_do_next(request_, answer, kind, words, advice):
    found = problem(request_, answer)
    assert type(found) is kind
    assert advice in found.advice
    with pytest.raises(kind, match=words):
        raise found


def test_a_refusal_in_a_graphql_200_is_a_refusal():
    asked = graphql("query", {}, "asking", rents=True)
    for text, kind in {
        problems.NO_INSTANCES: NoCapacity, problems.LOW_BALANCE: Rejected, "Unauthorized request": AuthError,
        "access denied": NoCapacity,
    }.items():  # fmt: skip
        with pytest.raises(kind, match=text[:20]):
            read_graphql(asked, reply(200, {"errors": [{"message": text}], "data": None}))
    assert read_graphql(asked, reply(200, {"data": {"a": 1}})) == {"a": 1}


def test_a_pod_is_read_and_what_is_not_there_yet_is_none():
    pod = read_pod(json.loads(json.dumps(POD)))
    assert (pod.ssh.host, pod.ssh.port, pod.up, pod.gpu_count) == ("1.2.3.4", 10022, True, 2)
    assert pod.micros_per_hour == 440_000
    early = read_pod({**POD, "status": "PROVISIONING", "ssh": {"proxy": None, "direct": None}, "runtime": {}})
    assert (early.ssh, early.up) == (None, False)
    bare = read_pod({**POD, "ssh": None, "runtime": None, "dataCenterId": None, "startedAt": None, "gpu": None})
    assert (bare.ssh, bare.place, bare.start, bare.gpu_count) == (None, None, "", 0)


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"pods": None}, {"pods": [1]}, {"pods": [{**POD, "status": "NEW"}]}, {"pods": [{**POD, "id": ""}]},
     {"pods": [{**POD, "createdAt": "yesterday"}]}, {"pods": [{**POD, "cost": "NaN"}]}],
)  # fmt: skip
def test_what_is_out_of_contract_is_never_guessed_at(value):
    with pytest.raises(Malformed):
        read_pods(value)


def test_a_graphql_pod_is_the_same_pod_in_other_words():
    pod = read_graphql_pod(
        {
            "id": "x", "name": "n", "desiredStatus": "RUNNING", "costPerHr": 0.2, "adjustedCostPerHr": None,
            "env": ["A=b=c"], "lastStatusChange": "Rented by User", "gpuCount": 1,
            "runtime": {"ports": [
                {"ip": "10.0.0.1", "isIpPublic": False, "privatePort": 22, "publicPort": 60000, "type": "tcp"},
                {"ip": "1.2.3.4", "isIpPublic": True, "privatePort": 22, "publicPort": 10022, "type": "tcp"},
            ]},
        }
    )  # fmt: skip
    assert (pod.env, pod.ssh.port, pod.up, pod.status) == ({"A": "b=c"}, 10022, True, "RUNNING")
    assert read_graphql_pod({"id": "x", "name": "n", "desiredStatus": "RUNNING", "runtime": None}).status == "STARTING"


def test_money_is_exact_and_rounded_up():
    assert micros(json.loads("0.1")) == 100_000
    assert micros("0.0000001") == 1
    amounts = [{"totalAmount": 0.1}, {"totalAmount": 0.2}]
    assert read_bill({"records": amounts, "metadata": {}}) == 300_000
    assert read_bill({"records": [], "metadata": {}}) is None


@pytest.mark.parametrize(
    "wish",
    [
        WISH,
        Wish("n", "i", "b", {}, 1, cpu="cpu3c", vcpus=2, data_centers=("EU-RO-1",)),
        Wish("n", "i", "b", {}, 1, "COMMUNITY", "NVIDIA L4", 8, min_cuda="12.8", min_ram_per_gpu_gb=60),
    ],
)
def test_what_is_sent_to_rent_a_pod_follows_the_closed_schema(wish):
    schemas.check(dict(create_pod(wish).body), schemas.CREATE_POD)


# the rate limit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


LIMIT = '"minute";r={};t=12, "hour";r=2800;t=1812'
POLICY = '"minute";q=60;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400'


def test_nothing_is_sent_that_would_only_be_refused():
    clock = Clock()
    quota = Quota(clock)
    quota.learn({"ratelimit": LIMIT.format(7), "ratelimit-policy": POLICY}, None)
    quota.take()
    quota.take()
    with pytest.raises(Transient) as busy:
        quota.take()
    assert busy.value.retry_after == 12.0
    for _ in range(5):
        quota.take(urgent=True)  # kept for giving machines back
    with pytest.raises(Transient):
        quota.take(urgent=True)
    clock.now += 12.0
    quota.take()


def test_who_is_told_to_wait_makes_all_wait():
    clock = Clock()
    quota = Quota(clock)
    quota.learn({}, 30.0)
    quota.learn({"ratelimit": LIMIT.format(50)}, None)
    clock.now += 29.0
    with pytest.raises(Transient, match="1 s"):
        quota.take(urgent=True)
    clock.now += 1.0
    quota.take()


def test_without_the_headers_nothing_is_held_back():
    quota = Quota(Clock())
    quota.learn({"ratelimit": "nonsense", "ratelimit-policy": '"minute"'}, None)
    for _ in range(1000):
        quota.take()


# the client


def client_over(monkeypatch: pytest.MonkeyPatch, answer) -> Client:
    """The client with a transport that never opens a connection."""
    transport, plain = httpx.MockTransport(answer), httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **given: plain(transport=transport, **given))
    return Client("https://api.example", lambda: "rpa_SECRETKEY", Clock())


@pytest.mark.parametrize(
    ("error", "while_renting", "otherwise"),
    [
        (httpx.ConnectError("refused"), Transient, Transient),
        (httpx.ConnectTimeout("slow"), Transient, Transient),
        (httpx.ReadTimeout("slow"), Lost, Transient),
        (httpx.RemoteProtocolError("cut"), Lost, Transient),
        (httpx.WriteError("cut"), Lost, Transient),
    ],
)
def test_what_was_never_sent_has_rented_nothing(monkeypatch, error, while_renting, otherwise):
    def answer(_request):
        raise error

    client = client_over(monkeypatch, answer)
    for request, kind in ((CREATE, while_renting), (LIST, otherwise), (delete_pod("x"), otherwise)):
        with pytest.raises(kind):
            client.call(request)


def test_the_key_is_in_one_header_and_in_no_error(monkeypatch):
    seen = []

    def answer(request):
        seen.append(request)
        return httpx.Response(400, json=detail(f"key {request.headers['authorization']} is wrong"))

    client = client_over(monkeypatch, answer)
    with pytest.raises(Rejected) as refused:
        client.call(gpu_catalog("SECURE", 1))
    assert "rpa_SECRETKEY" not in str(refused.value)
    assert seen[0].headers["authorization"] == "Bearer rpa_SECRETKEY"
    assert "rpa_SECRETKEY" not in str(seen[0].url)


def test_a_reply_that_makes_no_sense_is_lost_only_where_a_pod_may_have_been_rented(monkeypatch):
    client = client_over(monkeypatch, lambda _: httpx.Response(201, text="<html>"))
    with pytest.raises(Lost, match="makes no sense"):
        client.read(CREATE, read_pod)
    with pytest.raises(Transient, match="makes no sense"):
        client.read(LIST, read_pods)


def test_a_catalogue_out_of_contract_fails_the_call_and_not_the_program(monkeypatch):
    gpus = [{"secure": True, "price": {"secure": 1}}]
    client = client_over(monkeypatch, lambda _: httpx.Response(200, json={"gpus": gpus, "cpus": [{}]}))
    for request, parse in ((LIST, lambda value: read_stock(value, "secure")), (LIST, read_flavours)):
        with pytest.raises(Transient, match="makes no sense"):
            client.read(request, parse)


@pytest.mark.parametrize("address", ["http://api.runpod.io", "ftp://x", "api.runpod.io", "http://127.0.0.1.evil.org"])
def test_the_key_is_never_sent_in_the_clear(address, monkeypatch):
    with pytest.raises(Rejected, match="no address"):
        checked_address(address, "the RunPod API", "")
    monkeypatch.setenv("RUNPOD_API_BASE_URL", address)
    with pytest.raises(Rejected):
        Settings.read({})
