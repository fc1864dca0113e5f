"""A look before the run: what it forbids is not started, and what goes wrong with it stops nothing.

In the place of Python stands a program that answers as the tracer does; tests/exact has the tracer itself.
"""

from __future__ import annotations

import os
import signal
import sys

from e2e_kit import Gpujob, eventually

SPEC = (
    "model: {hf: gpt2, preflight: true}",
    "env: {HOW: '{how}'}",
    "params: {how: large}",
    "variants: [{name: large}, {name: small, params: {how: small}, quality: 0.9, model: {preflight: false}}]",
    "limits: {runtime: 120s}",
)
RUN = "mkdir -p out; echo $HOW > out/how"
REFUSAL = """\
touch '{here}/looking'
while [ ! -e '{here}/go' ]; do sleep 0.1; done
echo '{{"vram_bytes": 20000000000}}' > preflight.json
echo 'gpt2, traced: 21.1 GB allocated at its peak (backward), at least 20.0 GB are needed; this GPU has 8.6 GB'
exit 69
"""


def python(user: Gpujob, script: str) -> None:
    """Put a program in the place of the jobs' Python."""
    tool = user.cwd / "bin" / "python"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n" + script)
    tool.chmod(0o755)
    user.env["PATH"] = f"{tool.parent}:{os.environ['PATH']}"


def test_without_torch_the_run_begins_and_a_note_says_why(user: Gpujob) -> None:
    python(user, f'exec {sys.executable} -S "$@"\n')
    detail = user.submit(user.job(RUN, *SPEC))
    assert [(a["variant"], a["outcome"]) for a in detail["attempts"]] == [("large", "succeeded")]
    notes = [note["text"] for note in detail["notes"] if note["kind"] == "preflight"]
    said = "gpt2 was not traced: torch is not installed in this environment"
    assert notes == [f"preflight of attempt 1: {said} (ended with 1; the run began all the same)"]


def test_a_refusal_climbs_the_ladder_also_if_the_worker_dies_meanwhile(user: Gpujob) -> None:
    python(user, REFUSAL.format(here=user.cwd))
    job = user.detached(user.job(RUN, *SPEC))
    eventually((user.cwd / "looking").exists, "a preflight under way")
    user.stop_workers(signal.SIGKILL)
    (user.cwd / "go").touch()
    user.run("resume", "--detach", job)
    detail = user.ended(job)
    assert [(a["variant"], a["outcome"]) for a in detail["attempts"]] == [("large", "oom_gpu"), ("small", "succeeded")]
    refused = detail["attempts"][0]
    assert "at least 20.0 GB are needed; this GPU has 8.6 GB" in refused["evidence"][0]
    assert refused["summary"] == "Too large for this GPU, as its preflight shows"
    files = user.home / "jobs" / job
    assert not (files / "attempt-1" / "files" / "out").exists()
    assert (files / "attempt-2" / "files" / "out" / "how").read_text() == "small\n"
