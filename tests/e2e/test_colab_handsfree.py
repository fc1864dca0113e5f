"""Colab hands-free, end to end: the real gpujob, a stand-in `colab` on PATH, runtimes limited by the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_kit import Gpujob, eventually
from renter_kit import outcomes

from orchestrator.home import Home
from tests.emulators.account_kit import rows
from tests.emulators.colab_cli import BIN, Colab
from tests.emulators.runpod import why_no_memory_limit

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="NOT TESTED: finding runtimes' processes needs /proc"),
]

ON_CPU = ("needs: {gpu: none, ram: 200 MB}", "limits: {runtime: 2m, attempts: 8}", "duration: {on: cpu, minutes: 0.1}")
HOG = """
mkdir -p out; echo $HOW > out/how; printf '%s' "$TOKEN" | wc -c > out/length; [ $HOW = small ] && exit 0
exec python3 -S -c 'held = [b"x" * 10_000_000 for _ in range(200)]'
"""
RESUMES = """
mkdir -p out ck; [ -e ck/at ] && { cp ck/at out/resumed; exit 0; }
echo step-7 > ck/at; echo at work; sleep 600
"""
ON_COLAB = ("--backend", "colab", "--yes")


@pytest.fixture
def colab(user: Gpujob, tmp_path: Path) -> Iterator[Colab]:
    """The user's account; nothing may be up at the end, and no more may be booked than was agreed to."""
    account = Colab(tmp_path / "colab")
    user.env = {**account.env, "PATH": f"{BIN}:{os.environ['PATH']}"}
    user.run("config", "set", "colab.plan", "payg")
    user.run("config", "set", "attempt.keep_every", "1s")
    yield account
    eventually(lambda: not account.up(), "the end of every runtime")
    account.close()


def test_killed_for_memory_there_it_falls_back_and_nothing_is_left(user: Gpujob, colab: Colab) -> None:
    if reason := why_no_memory_limit():
        pytest.skip(f"NOT TESTED: {reason}")
    colab.entitled = ("NONE",)
    variants = "variants: [{name: big}, {name: small, params: {how: small}, quality: 0.9}]"
    spec = user.job(HOG, *ON_CPU, "env: {HOW: '{how}'}", "params: {how: big}", "secrets: [TOKEN]", variants)
    (first, *_) = user.json("plan", spec, "--budget", "1", "--backend", "colab")["ladder"]
    assert first["offer"] == "pay as you go CPU"
    assert "started by Google's command `colab` 0.7.5, without you" in " ".join(
        user.text("plan", spec, "--budget", "1", "--backend", "colab").split()
    )
    assert "by command, as Google's command `colab` is there" in " ".join(user.text("backends").split())
    detail = user.submit(spec, *ON_COLAB, TOKEN="hush-hush")
    killed, *others, fallen = outcomes(detail)
    assert (killed, fallen, {*others} <= {"no_capacity"}) == ("oom_host", "succeeded", True)
    assert detail["attempts"][0]["signal"] == 9
    files = user.home / "jobs" / detail["id"] / f"attempt-{len(detail['attempts'])}" / "files/out"
    assert ((files / "how").read_text(), (files / "length").read_text().strip()) == ("small\n", "9")
    booked = sum(float(attempt["cost_usd"] or 0) for attempt in detail["attempts"])
    assert 0 < colab.units() * 0.0999 <= booked + 0.001
    assert user.json("colab", "status")["balance_units"] == pytest.approx(100.0, abs=0.5)
    assert user.text("reap").count("given back") == 0


def test_a_dead_worker_is_taken_over_and_a_vanished_runtime_costs_no_more_than_minutes(
    user: Gpujob, colab: Colab
) -> None:
    job = user.detached(user.job(RESUMES, *ON_CPU, "checkpoints: [ck/]"), *ON_COLAB)
    kept = user.home / "jobs" / job
    eventually((Home(user.home).checkpoints(job, 1) / "ck/at").exists, "the checkpoint at home")
    user.stop_workers(9)
    assert len(colab.up()) == 1
    colab.unassign(colab.up()[0].endpoint)
    user.run("resume", job, "--detach")
    over = "SELECT ended_at FROM job WHERE id = ? AND ended_at IS NOT NULL"
    eventually(lambda: rows(user.home, over, job), "the end of the job")
    detail = user.show(job)
    assert outcomes(detail) == ["lost", "succeeded"]
    assert (kept / "attempt-2/files/out/resumed").read_text() == "step-7\n"
