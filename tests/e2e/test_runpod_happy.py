"""One job on one pod, from `gpujob submit` to the bill."""

from __future__ import annotations

import json
from typing import Any

import pytest
from renter_kit import ON_L4, Renter, offers, outcomes

from tests.emulators.runpod import RunPodEmulator

HOURLY_USD = 0.39 + 30 * 0.10 / 730
"""An L4 with the usual 30 GB of disk."""

TOLERANCE_SECONDS = 60.0
"""By which our account may be above the bill: a step of RunPod's clock, and the time from asking it to end a pod until
seeing that it has; 1 to 3 s, on a busy machine more.
"""

CENT_OF_A_CENT = 0.0001

LOOKS_AROUND = """
mkdir -p out/deep; echo $GPUJOB_RUN > out/key; cp data/* out/deep/; nvidia-smi -L > out/gpus
hostname | tee out/host; pwd > out/place
"""


def test_a_job_runs_on_a_pod_and_comes_home(renter: Renter, cloud: RunPodEmulator) -> None:
    for number in range(20):
        renter.write(f"job/data/{number}", f"{number}\n" * 100)
    done = renter.run(
        "submit", renter.job(LOOKS_AROUND, *ON_L4), "--budget", "1", "--backend", "runpod", "--yes", "--json"
    )
    assert "RUNPOD_API_KEY is set in this terminal only" in done.stderr
    detail = json.loads(done.stdout)
    assert outcomes(detail) == ["succeeded"]
    assert offers(detail) == ["secure L4"]
    (pod,) = cloud.created
    assert renter.fetched(detail, 1, "out/host").strip() == pod.id
    assert renter.fetched(detail, 1, "out/key").strip() == f"{detail['id']}-a1"
    assert renter.fetched(detail, 1, "out/deep/19") == "19\n" * 100
    assert "L4" in renter.fetched(detail, 1, "out/gpus")
    assert renter.text("logs", detail["id"]).strip() == pod.id
    renter.run("results", detail["id"], "got")
    assert (renter.cwd / "got/out/deep/7").read_text() == "7\n" * 100
    assert "Everything that is rented is accounted for" in renter.text("reap")
    assert [step["name"] for step in detail["attempts"][0]["steps"]] == [
        "provision", "upload", "execute", "fetch", "teardown"
    ]  # fmt: skip
    assert all(len(step["tries"]) == 1 for step in detail["attempts"][0]["steps"])
    assert cloud.account_keys == [], "the account's own keys are not touched"
    check_money(renter, cloud, detail)


def check_money(renter: Renter, cloud: RunPodEmulator, detail: dict[str, Any]) -> None:
    """Ours against the emulator's own meter and what its billing endpoint says: never below, and little above."""
    (pod,) = cloud.created
    metered = cloud.meter(pod.id).total
    ours, theirs = float(detail["spent_usd"]), float(detail["attempts"][0]["provider_usd"])
    assert theirs == pytest.approx(metered, abs=CENT_OF_A_CENT)
    assert theirs <= ours <= theirs + TOLERANCE_SECONDS * HOURLY_USD / 3600
    total = renter.json("report")["total"]
    assert float(total["usd"]) == ours
    assert float(total["provider_usd"]) == theirs
    assert float(total["difference_usd"]) == pytest.approx(theirs - ours)
    assert f"${total['provider_usd']}" in renter.text("report")
