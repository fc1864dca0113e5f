"""Jobs on EC2 by the real command: what AWS refuses, loses and takes back, and what is left when all is over."""

from __future__ import annotations

import hashlib
import random
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloud_renter_kit import CUDA_OOM, ON_L4, QUICK, RESUMES, SHORT, SLEEPS, CloudRenter, outcomes, renter_in
from e2e_kit import eventually

from orchestrator.clock import moment
from tests.emulators.account_kit import rows
from tests.emulators.aws import AwsEmulator
from tests.emulators.aws_account_kit import account, boxes_of, spent

pytestmark = [pytest.mark.needs("guests"), pytest.mark.needs("moto"), pytest.mark.timeout(600)]

LEFT_SECONDS = 20.0
MODEL_BYTES = 9 << 20
ON_DEMAND, SPOT = "g6.xlarge in us-east-1", "spot g6.xlarge in us-east-1"


@pytest.fixture
def aws() -> Iterator[AwsEmulator]:
    with AwsEmulator() as cloud:
        yield cloud


@pytest.fixture
def renter(tmp_path: Path, aws: AwsEmulator, record_property: Callable[[str, object], None]) -> Iterator[CloudRenter]:
    with renter_in(tmp_path, "aws", aws, boxes_of, account, record_property) as someone:
        yield someone


def test_two_zones_have_none_the_third_has_one_and_its_reply_is_lost(renter: CloudRenter, aws: AwsEmulator) -> None:
    for zone in ("us-east-1a", "us-east-1b"):
        aws.no_capacity(zone)
    aws.lose_reply()
    detail = renter.rent(renter.job(QUICK, *ON_L4))
    assert outcomes(detail) == ["succeeded"]
    assert detail["attempts"][0]["offer"] == ON_DEMAND
    (box,) = aws.created
    assert box.zone == "us-east-1c"
    assert box.ends_with_shutdown
    assert [each for each in aws.asked if each.startswith("RunInstances")] == [
        "RunInstances us-east-1a", "RunInstances us-east-1b", "RunInstances us-east-1c"
    ]  # fmt: skip
    assert renter.fetched(detail, 1, "out/key").strip() == f"{detail['id']}-a1"
    assert "L4" in renter.fetched(detail, 1, "out/gpus")
    metered = box.cost_usd(aws.clock.now())
    assert metered <= float(detail["spent_usd"]), "never below the bill"
    secrets = [aws.env["AWS_SECRET_ACCESS_KEY"], aws.env["AWS_ACCESS_KEY_ID"]]
    files = [path for path in renter.home.rglob("*") if path.is_file()]
    assert not [path for path in files if any(word.encode() in path.read_bytes() for word in secrets)]


def test_a_quota_of_nothing_is_said_with_the_place_to_ask_for_more(renter: CloudRenter, aws: AwsEmulator) -> None:
    aws.quotas["L-DB2E81BA"] = 0
    spec = renter.job(QUICK, *ON_L4)
    plan = renter.json("plan", spec, "--budget", "1", "--backend", "aws", code=3)
    said = " ".join(each["reason"] for each in plan["rejected"])
    assert "0 vCPUs of on-demand G instances" in said
    assert "servicequotas/home/services/ec2/quotas/L-DB2E81BA" in said
    assert not aws.created


def test_a_spot_instance_is_taken_back_and_the_next_rung_goes_on(renter: CloudRenter, aws: AwsEmulator) -> None:
    renter.set("aws.spot", "yes")
    aws.spot_prices = {("g6.xlarge", "us-east-1d"): 0.30, ("g6.xlarge", "us-east-1b"): 0.35}
    job = renter.rent_detached(renter.job(RESUMES, *ON_L4, "checkpoints: [ck/]"), "--priority", "cost")
    renter.until_said(job, 1, "at work")
    first = renter.box()
    assert (first.spot, first.zone) == (True, "us-east-1d"), "the cheapest zone"
    aws.spot_prices = {}
    aws.notice(first)
    eventually(lambda: rows(renter.home, "SELECT 1 FROM attempt WHERE job_id = ? AND number = 2", job), "a second try")
    detail = renter.over(job)
    assert outcomes(detail) == ["preempted", "no_capacity", "succeeded"]
    assert [attempt["offer"] for attempt in detail["attempts"]] == [SPOT, SPOT, ON_DEMAND]
    assert renter.fetched(detail, 3, "out/resumed") == "step-7\n"


def test_the_worker_dies_for_good_and_the_instance_ends_itself(renter: CloudRenter, aws: AwsEmulator) -> None:
    job = renter.rent_detached(renter.job(SLEEPS, *ON_L4))
    renter.until_said(job, 1, "at work")
    renter.stop_workers(signal.SIGKILL)
    (row,) = rows(renter.home, "SELECT ends_at FROM lease")
    aws.advance((moment(row["ends_at"]) - datetime.now(UTC)).total_seconds() - LEFT_SECONDS)
    eventually(lambda: not aws.boxes(), "the end of the instance, by itself")
    (attempt,) = rows(renter.home, "SELECT * FROM attempt")
    cost = spent(aws, renter.home, attempt["key"])
    assert 0.5 * attempt["reserved_micros"] < cost <= attempt["reserved_micros"]
    assert aws.created[0].reason == "Client.InstanceInitiatedShutdown"
    renter.run("cancel", job)
    assert outcomes(renter.over(job)) == ["lost"]


def test_out_of_memory_on_24_gb_falls_to_48_then_80_and_a_large_file_goes_up_once(
    renter: CloudRenter, aws: AwsEmulator
) -> None:
    """The three instances have the file from S3, where one upload has put it."""
    renter.set("aws.stage_from", "8 MB")
    needs = ("needs: {gpu: {names: [L4, L40S, H100 SXM]}, ram: 4 GB}", *SHORT)
    spec = renter.job(CUDA_OOM.replace("mkdir -p out;", "mkdir -p out; sha256sum model.bin > out/sum;"), *needs)
    model = random.Random(1).randbytes(MODEL_BYTES)
    (renter.cwd / "job" / "model.bin").write_bytes(model)
    detail = renter.rent(spec, "--priority", "cost", "--budget", "10")
    assert outcomes(detail) == ["oom_gpu", "oom_gpu", "succeeded"]
    assert [box.type.gpu for box in aws.created] == ["L4", "L40S", "H100 SXM"]
    assert renter.fetched(detail, 3, "out/seen").strip() == "80498"
    digest = hashlib.sha256(model).hexdigest()
    assert all(renter.fetched(detail, number, "out/sum").startswith(digest) for number in (1, 2, 3))
    (bucket,) = aws.s3.names()
    assert aws.s3.keys(bucket) == [f"sha256/{digest}"]
    assert (aws.s3.received, aws.s3.asked.count("GetObject")) == (MODEL_BYTES, 3)
    files = [path for path in renter.home.rglob("*") if path.is_file()]
    assert not [path for path in files if b"X-Amz-" in path.read_bytes()], "an address that may be read is a secret"
    renter.run("reap")
    assert aws.s3.names() == [bucket], "it holds something yet"
    aws.s3.midnights(2)
    renter.run("reap")
