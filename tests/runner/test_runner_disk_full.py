"""A full disk may cost output and samples, never the exit record."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner_kit import Job


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("NO RIGHT TO MOUNT A SMALL DISK HERE: a full disk stays untested")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_job_that_fills_the_disk_leaves_its_record_and_last_lines(make_job, small_disk: Path) -> None:
    job: Job = make_job(small_disk / "job")
    record = job.run("cat /dev/zero > big; code=$?; sleep 1.2; echo the end; exit $code", sample_every=0.01)
    assert (record["exit_code"], record["failed_phase"]) == (1, "run")
    assert record["disk_free_bytes"] < 100_000
    assert "No space left on device" in job.log("stderr")
    assert job.log("stdout") == "the end\n"


def test_output_that_fills_the_disk_keeps_its_end(make_job, small_disk: Path) -> None:
    job: Job = make_job(small_disk / "job")
    record = job.run("seq 1 2000000; exit 5")
    assert record["exit_code"] == 5
    assert record["log_truncated"] is True
    assert job.log().startswith("1\n2\n")
    assert job.log().endswith("\n2000000\n")


def test_a_disk_that_is_full_before_the_start_is_said(make_job, small_disk: Path) -> None:
    job: Job = make_job(small_disk / "job").write("true")
    with (small_disk / "big").open("wb") as file:
        subprocess.run(["cat", "/dev/zero"], stdout=file, stderr=subprocess.DEVNULL)
    refused = job.start()
    assert refused.returncode == 2
    assert "No space left" in refused.stdout
    assert job.status()["phase"] == "absent"
