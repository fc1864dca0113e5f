"""Colab end to end: the real command, the real notebook file in a real kernel, and an emulated Drive between them."""

from __future__ import annotations

import pytest
from colab_kit import ON_CPU, Colabber

from tests.emulators.drive import DriveEmulator

pytestmark = [pytest.mark.needs("ipykernel"), pytest.mark.needs("nbclient"), pytest.mark.timeout(300)]

QUICK = "mkdir -p out/deep; echo $GPUJOB_RUN > out/key; echo $TOKEN | wc -c > out/deep/length; echo hello"


def test_a_job_goes_to_the_session_and_comes_home(colabber: Colabber, drive: DriveEmulator) -> None:
    runtime = colabber.up()
    spec = colabber.job(QUICK, *ON_CPU, "secrets: [TOKEN]")
    detail = colabber.colab(spec, TOKEN="hush-hush-hush")  # type: ignore[call-arg]
    assert [attempt["outcome"] for attempt in detail["attempts"]] == ["succeeded"]
