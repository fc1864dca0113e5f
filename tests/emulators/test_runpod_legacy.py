"""The emulator's GraphQL API: renting, spot pods, refusals within an HTTP 200; without machines."""

from __future__ import annotations

from tests.emulators.runpod import RunPodEmulator, problems
from tests.emulators.runpod_kit import LEGACY_ORDER, RENT, RTX4090, Client

DEPLOY = """mutation($input: PodFindAndDeployOnDemandInput) {
  podFindAndDeployOnDemand(input: $input) { id desiredStatus costPerHr env podType machine { gpuDisplayName } }
}"""


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
