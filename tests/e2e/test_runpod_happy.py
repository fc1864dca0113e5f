"""One job on one pod, from `gpujob submit` to the bill."""

from __future__ import annotations

from renter_kit import ON_L4, Renter, offers, outcomes

from tests.emulators.runpod import RunPodEmulator

LOOKS_AROUND = """
mkdir -p out/deep; echo $GPUJOB_RUN > out/key; cp data/* out/deep/; nvidia-smi -L > out/gpus
hostname > out/host; pwd > out/place
"""


def test_a_job_runs_on_a_pod_and_comes_home(renter: Renter, cloud: RunPodEmulator) -> None:
    for number in range(20):
        renter.write(f"job/data/{number}", f"{number}\n" * 100)
    detail = renter.rent(renter.job(LOOKS_AROUND, *ON_L4))
    assert outcomes(detail) == ["succeeded"]
    assert offers(detail) == ["secure L4"]
    (pod,) = cloud.created
    assert renter.fetched(detail, 1, "out/host").strip() == pod.id
    assert renter.fetched(detail, 1, "out/key").strip() == f"{detail['id']}-a1"
    assert renter.fetched(detail, 1, "out/deep/19") == "19\n" * 100
    assert "L4" in renter.fetched(detail, 1, "out/gpus")
    assert [step["name"] for step in detail["attempts"][0]["steps"]] == [
        "provision", "upload", "execute", "fetch", "teardown"
    ]  # fmt: skip
    assert all(len(step["tries"]) == 1 for step in detail["attempts"][0]["steps"])
    assert cloud.account_keys == [], "the account's own keys are not touched"
