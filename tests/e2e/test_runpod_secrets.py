"""Canaries: the account's key, a job's token, and a key that is nobody's business; where none of them may be seen."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e_kit import eventually
from renter_kit import ON_L4, WAITS_FOR_WORD, Renter, disk, outcomes

from tests.emulators.runpod import RunPodEmulator

ACCOUNT, TOKEN, OTHER = "rpa_CANARY7F3A9C51E2D84B60", "hf_canary5b7d2e9c4f10a836", "aws_canary91c04d7be25f3a68"
CANARIES = (ACCOUNT, TOKEN, OTHER)

LEAKS = 'echo "stdout says $HF_TOKEN"; echo "stderr says $HF_TOKEN" >&2; env | grep -c AWS_SECRET; ' + WAITS_FOR_WORD


def sung(data: bytes) -> list[str]:
    return [canary for canary in CANARIES if canary.encode() in data]


def where(folder: Path) -> dict[str, list[str]]:
    """Every file below ``folder`` that holds a canary, in whatever bytes, and which."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 26 and (heard := sung(_read(path))):
            found[str(path.relative_to(folder))] = heard
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # gone since it was listed
        return b""


@contextmanager
def watched_process_lists() -> Iterator[list[str]]:
    """What canaries show in the arguments of any process, here or in a pod, while the block runs."""
    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                line = _read(path)
                seen.extend(f"{canary} in {line!r}" for canary in sung(line))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def test_no_canary_sings(renter: Renter, cloud: RunPodEmulator) -> None:
    cloud.settings.key = ACCOUNT
    renter.env |= {"RUNPOD_API_KEY": ACCOUNT, "HF_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": OTHER}
    spec = renter.job(LEAKS, *ON_L4, "secrets: [HF_TOKEN]")
    with watched_process_lists() as seen:
        said = renter.run("submit", spec, "--budget", "1", "--backend", "runpod", "--yes", "--detach")
        job = next(path.name for path in (renter.home / "jobs").iterdir())
        renter.until_said(job, 1, "at work")
        kept = f"secrets/{job}.json"
        assert where(renter.home) == {kept: [TOKEN]}
        assert stat.S_IMODE((renter.home / kept).stat().st_mode) == 0o600
        assert where(disk(renter.pod()) / "root") == {}, "the pod's disk holds neither, its processes only the token"
        eventually(lambda: any(TOKEN in words for words in environments(renter)), "the token in the job's environment")
        assert not any(other in words for words in environments(renter) for other in (ACCOUNT, OTHER))
        renter.say_word(renter.pod())
        detail = renter.ended(job)
    assert outcomes(detail) == ["succeeded"]
    assert seen == []
    assert where(renter.home) == {}
    looks = [renter.run(*typed) for typed in (("show", job), ("show", job, "--json"), ("logs", job), ("report",))]
    assert sung("".join(look.stdout + look.stderr for look in (said, *looks)).encode()) == []
    assert "stdout says" in renter.text("logs", job)
    bodies = json.dumps([call.body for call in cloud.requests])
    assert "GPUJOB_KEY" in bodies
    assert sung(bodies.encode()) == []


def environments(renter: Renter) -> list[str]:
    """The environment of every process in the pod."""
    return [_read(Path(f"/proc/{pid}/environ")).decode(errors="replace") for pid in renter.pod().processes()]
