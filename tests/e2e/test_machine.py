"""What this machine offers and holds: GPUs one job at a time, inputs, places that fit, runs that do nothing."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from e2e_kit import Gpujob

NVIDIA_SMI = """#!/bin/sh
case "$1" in
  *query-gpu=index,name*) echo '0, NVIDIA RTX A4000, 16376, 512, 8.6' ;;
  *query-gpu*) echo '0, 16376, 512, 40' ;;
  *query-compute-apps*) echo '4242, /usr/bin/blender, 480' ;;
esac
"""


@pytest.fixture
def gpu(user: Gpujob, tmp_path: Path) -> Gpujob:
    """The user's machine has one GPU, as far as nvidia-smi can tell."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    user.env["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    return user


def test_a_gpu_has_one_job_at_a_time_which_sees_only_it(gpu: Gpujob, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"echo begin $CUDA_VISIBLE_DEVICES >> {log}; sleep 0.3; echo end $CUDA_VISIBLE_DEVICES >> {log}"
    spec = gpu.job(script, "needs: {gpu: 1}", "limits: {runtime: 60s}")
    jobs = [gpu.detached(spec) for _ in range(3)]
    details = [gpu.ended(job) for job in jobs]
    assert [detail["outcome"] for detail in details] == ["succeeded"] * 3
    assert {detail["attempts"][0]["gpu"] for detail in details} == {"NVIDIA RTX A4000"}
    assert log.read_text().split("\n")[:-1] == ["begin 0", "end 0"] * 3


def test_a_cpu_job_sees_no_gpu(gpu: Gpujob) -> None:
    gpu.submit(gpu.job('[ -z "$CUDA_VISIBLE_DEVICES" ]', "limits: {runtime: 60s}"))


def test_doctor_says_who_holds_the_gpu(gpu: Gpujob) -> None:
    found = gpu.json("doctor")
    assert found["gpus"][0]["vram_bytes"] == 16376 << 20
    assert found["gpu_processes"] == [{"pid": 4242, "name": "/usr/bin/blender", "vram_bytes": 480 << 20}]
    assert "held by /usr/bin/blender (pid 4242)" in gpu.text("doctor")


def test_a_gpu_that_is_too_small_is_refused_with_both_numbers(gpu: Gpujob) -> None:
    spec = gpu.job("true", "needs: {gpu: {vram: 24 GB}}")
    refused = gpu.json("plan", spec, "--budget", "1", code=3)["rejected"]
    assert {no["code"] for no in refused if no["offer"] == "gpu0"} == {"vram"}
    # Of its 17.2 GB the display and blender hold half a GB, and the driver keeps 0.2 GB.
    assert any("24 GB" in no["reason"] and "16.4 GB" in no["reason"] for no in refused)


def test_a_variant_runs_only_where_its_when_allows(gpu: Gpujob) -> None:
    spec = gpu.job(
        "echo $HOW; [ $HOW = small ]",
        "params: {how: big}",
        "env: {HOW: '{how}'}",
        "needs: {gpu: 1}",
        'variants: [{name: big, when: {vram: ">=35 GB"}}, {name: small, params: {how: small}}]',
        "limits: {runtime: 60s}",
    )
    detail = gpu.submit(spec)
    assert [(a["variant"], a["outcome"]) for a in detail["attempts"]] == [("small", "succeeded")]
    assert any(no["code"] == "variant_excluded" and "35 GB" in no["reason"] for no in detail["plan"]["rejected"])


CONTENT = b"weights" * 1000


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "weights.bin").write_bytes(CONTENT)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/weights.bin"
    server.shutdown()
    server.server_close()
    thread.join()


def test_inputs_are_there_before_the_command_runs(user: Gpujob, address: str) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    entry = f"inputs: [{{source: '{address}', sha256: {digest}, dest: models/}}]"
    detail = user.submit(user.job("sha256sum models/weights.bin", entry, "limits: {runtime: 60s}"))
    assert digest in user.text("logs", detail["id"])


def test_an_input_that_is_not_what_was_asked_for_stops_the_job_with_a_word(user: Gpujob, address: str) -> None:
    entry = f"inputs: [{{source: '{address}', sha256: {'0' * 64}, dest: models/}}]"
    detail = user.submit(user.job("echo never", entry, "limits: {runtime: 60s}"), code=1)
    assert detail["outcome"] == "failed"
    assert any("SHA-256" in line for line in detail["attempts"][0]["evidence"])
    assert "never" not in user.text("logs", detail["id"])


def test_a_run_that_does_nothing_is_ended(user: Gpujob) -> None:
    detail = user.submit(user.job("sleep 60", "limits: {runtime: 60s, idle: 1s}"), code=1)
    assert detail["outcome"] == "deadline"
    assert "idle" in detail["attempts"][0]["summary"].lower() + " ".join(detail["attempts"][0]["evidence"]).lower()


def test_a_run_ends_with_its_reservation_and_costs_no_more(user: Gpujob) -> None:
    """Ten cents a second: the budget buys the expected minute and the time around it, not the job's whole hour."""
    user.run("config", "set", "local.price_per_hour", "360")
    spec = user.job("sleep 0.2", "duration: {on: cpu, minutes: 0.1}", "limits: {runtime: 1h}")
    detail = user.json("submit", spec, "--budget", "40", "--yes")
    attempt = detail["attempts"][0]
    assert float(attempt["reserved_usd"]) <= 40
    assert float(attempt["cost_usd"]) <= float(attempt["reserved_usd"])
    assert attempt["allowed_seconds"] < 3600


def test_what_setup_makes_in_the_jobs_folder_is_there_for_every_attempt(user: Gpujob) -> None:
    spec = user.job(
        "cat prepared.txt; [ $HOW = small ] || kill -9 $$",
        "setup: echo data > prepared.txt",
        "params: {how: big}",
        "env: {HOW: '{how}'}",
        "variants: [{name: big}, {name: small, params: {how: small}}]",
        "limits: {runtime: 60s}",
    )
    for _ in range(2):
        detail = user.submit(spec)
        assert [(a["variant"], a["outcome"]) for a in detail["attempts"]][-1] == ("small", "succeeded")
    assert not list((user.home / "local").glob("environments/*"))


def test_a_result_that_was_promised_and_not_made_is_said(user: Gpujob) -> None:
    spec = user.job("echo hi", "limits: {runtime: 60s}")
    done = user.text("submit", spec, "--budget", "1")
    assert "the run left nothing at out" in done
    assert "gpujob results" not in done


def test_a_job_gets_the_variables_of_its_own_terminal(user: Gpujob) -> None:
    spec = user.job("echo HF=$HF_HOME", "limits: {runtime: 60s}")
    first = user.submit(spec, HF_HOME="/first")
    second = user.submit(spec, HF_HOME="/second")
    assert "HF=/first" in user.text("logs", first["id"])
    assert "HF=/second" in user.text("logs", second["id"])
