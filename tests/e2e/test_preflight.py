"""A preflight that cannot trace never stops the job. Where torch is installed, tests/exact has the rest."""

from __future__ import annotations

import os
import sys

from e2e_kit import Gpujob

MODEL = "model: {hf: gpt2, preflight: true}"


def test_without_torch_the_run_begins_and_a_note_says_why(user: Gpujob) -> None:
    bare = user.cwd / "bin" / "python"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    user.env["PATH"] = f"{bare.parent}:{os.environ['PATH']}"
    detail = user.submit(user.job("mkdir out; echo ran > out/it", MODEL, "limits: {runtime: 60s}"))
    assert detail["state"] == "succeeded"
    notes = [note["text"] for note in detail["notes"] if note["kind"] == "preflight"]
    said = "gpt2 was not traced: torch is not installed in this environment"
    assert notes == [f"preflight of attempt 1: {said} (ended with 1; the run began all the same)"]
