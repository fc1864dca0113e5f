"""The sweep of test_crash_points.py with Colab: an agent in this process, an emulated Drive, and a worker that dies."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from crash_kit import Place, Zygote, check_whole, eventually, stride

from backends.colab.agent.session import Session
from backends.colab.backend import ColabBackend
from backends.colab.settings import Settings
from orchestrator.config import Config
from tests.emulators.drive import DriveEmulator

STRIDE = stride(14)
"""Every so many-th point is died at; 1: at all of them."""

INPUT = bytes(range(256)) * 64
SPEC: dict[str, Any] = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir -p results checkpoints; cp input results/copy;"
    " echo half > checkpoints/state",
    "results": ["results/"],
    "checkpoints": ["checkpoints/"],
    "secrets": ["CRASH_SECRET"],
    "limits": {"runtime": "1m"},
    "needs": {"gpu": "none", "ram": "100 MB"},
}

pytestmark = pytest.mark.timeout(1200)


def test_wherever_the_worker_dies_the_job_runs_once_and_nothing_is_left_on_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DriveEmulator() as drive:
        secret = json.dumps(drive.sign_in())
        for name, value in {
            "GPUJOB_DRIVE_API": drive.url,
            "GPUJOB_DRIVE_TOKEN": secret,
            "CRASH_SECRET": "hush",
        }.items():
            monkeypatch.setenv(name, value)
        ColabBackend(tmp_path, Settings(credential=lambda: secret, api=drive.url)).try_key(secret)
        agent = Session(json.loads(secret), pace=0.02)
        thread, zygote = threading.Thread(target=agent.run), Zygote()
        thread.start()
        try:
            number, died = 1, 0
            while crashed(Place(tmp_path / f"at-{number}"), zygote, number, drive, secret):
                number, died = number + STRIDE, died + 1
        finally:
            agent.stop()
            thread.join()
            zygote.close()
        assert died * STRIDE > 20
        assert drive.twins() == {}


def crashed(place: Place, zygote: Zygote, number: int, drive: DriveEmulator, secret: str) -> bool:
    """Whether the worker died at that point; another has finished its work, and all is as it should be."""
    config = Config(place.home.config)
    for name, text in {"colab.api": drive.url, "colab.poll": "0.1s"}.items():
        config.set(name, text)
    backend = ColabBackend(place.home.root / "colab", Settings(credential=lambda: secret, api=drive.url, poll=0.1))
    backend.accept_terms()
    eventually(lambda: [each for each in backend.post.sessions() if not each.busy], "an agent that is free")
    place.home.local.mkdir(exist_ok=True)
    job = place.submit(SPEC, {"input": INPUT}, backends=("colab",))
    status = zygote.worker(place, number)
    if status:
        assert status == -signal.SIGKILL, (place.home.root / "worker.out").read_text()
        assert zygote.worker(place) == 0, (place.home.root / "worker.out").read_text()
    assert place.outcomes(job) == ["succeeded"], (number, place.trace()[-3:])
    assert place.runs() == [f"{job}-a1"]
    assert place.results(job, 1) == {"results/copy": INPUT}
    assert (place.home.checkpoints(job, 1) / "checkpoints/state").read_bytes() == b"half\n"
    check_whole(place, job)
    left = [
        file.name
        for file in drive.files()
        if file.name.startswith(("claim-", "in-", "out-", "state")) or job in file.name
    ]
    assert left == [], (number, place.trace()[number - 1 : number])
    assert list(backend.records.all()) == []
    return status != 0
