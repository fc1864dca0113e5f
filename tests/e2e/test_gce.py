"""Jobs on Compute Engine by the real command: what Google refuses, loses and takes back, and what is left over."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cloud_renter_kit import CUDA_OOM, ON_L4, QUICK, RESUMES, SHORT, SLEEPS, CloudRenter, outcomes, renter_in
from e2e_kit import eventually

from tests.emulators.account_kit import rows
from tests.emulators.gce import GceEmulator
from tests.emulators.gce.access import TOKEN, private_key
from tests.emulators.gce_account_kit import account, boxes_of, spent

pytestmark = [pytest.mark.needs("guests"), pytest.mark.needs("googleapiclient"), pytest.mark.timeout(600)]

ZONES = [f"us-central1-{letter}" for letter in "abc"]
STANDARD, SPOT = "g2-standard-4 in us-central1", "spot g2-standard-4 in us-central1"


@pytest.fixture
def gce() -> Iterator[GceEmulator]:
    with GceEmulator() as cloud:
        yield cloud


@pytest.fixture
def renter(tmp_path: Path, gce: GceEmulator, record_property: Callable[[str, object], None]) -> Iterator[CloudRenter]:
    with renter_in(tmp_path, "gce", gce, boxes_of, account, record_property) as someone:
        yield someone


def test_two_zones_have_none_the_third_has_one_and_its_reply_is_lost(renter: CloudRenter, gce: GceEmulator) -> None:
    for zone in ZONES[:2]:
        gce.no_capacity(zone)
    gce.lose_reply(zone=ZONES[2])
    detail = renter.rent(renter.job(QUICK, *ON_L4))
    assert outcomes(detail) == ["succeeded"]
    assert detail["attempts"][0]["offer"] == STANDARD
    (box,) = gce.created
    assert (box.zone, box.how) == (ZONES[2], "deleted")
    assert list(dict.fromkeys(each for each in gce.asked if "insert us" in each)) == [
        f"instances.insert {zone}" for zone in ZONES
    ]
    assert renter.fetched(detail, 1, "out/key").strip() == f"{detail['id']}-a1"
    assert "L4" in renter.fetched(detail, 1, "out/gpus")
    assert box.cost_usd(gce.clock.now()) <= float(detail["spent_usd"]), "never below the bill"
    assert int((renter.home / "jobs" / detail["id"] / "attempt-1" / "traffic").read_text()) > 0, "what came is counted"
    secrets = [TOKEN, private_key().splitlines()[1]]
    files = [path for path in renter.home.rglob("*") if path.is_file()]
    assert not [path for path in files if any(word.encode() in path.read_bytes() for word in secrets)]


def test_a_quota_of_nothing_is_said_with_the_place_to_ask_for_more(renter: CloudRenter, gce: GceEmulator) -> None:
    gce.quotas.update(NVIDIA_L4_GPUS=0, PREEMPTIBLE_NVIDIA_L4_GPUS=0)
    spec = renter.job(QUICK, *ON_L4)
    plan = renter.json("plan", spec, "--budget", "1", "--backend", "gce", code=3)
    said = " ".join(each["reason"] for each in plan["rejected"])
    assert "0 NVIDIA_L4_GPUS in us-central1" in said
    assert "iam-admin/quotas?project=gpujob-emulated" in said
    assert not gce.created


def test_a_spot_instance_is_taken_back_and_the_next_rung_goes_on(renter: CloudRenter, gce: GceEmulator) -> None:
    renter.set("gce.spot", "yes")
    job = renter.rent_detached(renter.job(RESUMES, *ON_L4, "checkpoints: [ck/]"), "--priority", "cost")
    renter.until_said(job, 1, "at work")
    first = renter.box()
    assert (first.spot, first.zone) == (True, ZONES[0])
    gce.quotas["GPUS_ALL_REGIONS"] = 1
    gce.notice(first)
    detail = renter.over(job)
    assert outcomes(detail) == ["preempted", "succeeded"]
    assert detail["attempts"][0]["offer"] == SPOT
    assert renter.fetched(detail, 2, "out/resumed") == "step-7\n"


def test_the_worker_dies_for_good_and_google_deletes_the_instance(renter: CloudRenter, gce: GceEmulator) -> None:
    job = renter.rent_detached(renter.job(SLEEPS, *ON_L4))
    renter.until_said(job, 1, "at work")
    renter.stop_workers(signal.SIGKILL)
    gce.advance(renter.box().run_seconds)
    assert [box.how for box in gce.created] == ["maxRunDuration"]
    assert not gce.project.disks
    (attempt,) = rows(renter.home, "SELECT * FROM attempt")
    cost = spent(gce, renter.home, attempt["key"])
    assert 0.5 * attempt["reserved_micros"] < cost <= attempt["reserved_micros"]
    renter.run("cancel", job)
    assert outcomes(renter.over(job)) == ["lost"]


def test_out_of_memory_on_24_gb_falls_to_40_then_80(renter: CloudRenter, gce: GceEmulator) -> None:
    needs = ("needs: {gpu: {names: [L4, A100 40GB, A100 80GB SXM], vram: 20 GB}, ram: 4 GB}",
             *SHORT)  # fmt: skip
    detail = renter.rent(renter.job(CUDA_OOM, *needs), "--priority", "cost", "--budget", "10")
    assert outcomes(detail) == ["oom_gpu", "oom_gpu", "succeeded"]
    assert [box.type.gpu for box in gce.created] == ["L4", "A100 40GB", "A100 80GB SXM"]
    assert renter.fetched(detail, 3, "out/seen").strip() == "80855"
    eventually(lambda: not gce.left(), "nothing left")
