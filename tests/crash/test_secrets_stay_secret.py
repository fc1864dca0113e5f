"""R12: a secret's value is nowhere but in one private file, and that only while the job is unfinished."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from crash_kit import Place, eventually, kill

CANARY = "canary-5f1c9e07d2"

PROGRAM = """
import os, sys, time, pathlib
token = os.environ["CANARY_TOKEN"]
assert len(token) == 17
print("stdout says", token, flush=True)
print("stderr says", token, file=sys.stderr, flush=True)
while not pathlib.Path(os.environ["RUNS"] + ".go").exists():
    time.sleep(0.02)
if os.environ["MODE"] == "fails":
    raise ValueError("the server refuses " + token)
"""


def where(folder: Path) -> list[str]:
    """Every file below ``folder`` that holds the canary, in whatever bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in files if CANARY.encode() in path.read_bytes())


def in_arguments() -> list[bytes]:
    """Command lines on this machine that show the canary."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:  # gone since it was listed
            continue
    return [line for line in lines if CANARY.encode() in line]


@pytest.mark.parametrize("mode", ["succeeds", "fails", "cancelled", "worker dies"])
def test_the_canary_never_sings(place: Place, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("CANARY_TOKEN", CANARY)
    env = {"RUNS": str(place.runs_file), "MODE": mode}
    spec = {"run": "python3 leak.py", "secrets": ["CANARY_TOKEN"], "env": env, "limits": {"runtime": "1m"}}
    job = place.submit(spec, {"leak.py": PROGRAM.encode()})
    monkeypatch.delenv("CANARY_TOKEN")
    kept = place.home.secrets / f"{job}.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert where(place.home.root) == [f"secrets/{job}.json"]
    with place.worker() as worker:
        eventually(lambda: any(place.home.local.glob("*/stderr.log")), "the run")
        eventually(lambda: b"stderr says" in logs_of(place), "its first words")
        assert where(place.home.root) == [f"secrets/{job}.json"]
        assert in_arguments() == []
        if mode == "worker dies":
            kill(worker)
        if mode == "cancelled":
            place.cancel(job)
        (place.folder / "runs.go").touch()
        if mode == "worker dies":
            said = place.call("worker", "--until-idle")
            assert said.returncode == 0
            assert CANARY not in said.stderr
        else:
            said_here = "".join(worker.communicate(timeout=60))
            assert CANARY not in said_here
    assert place.job(job)["state"] == {"fails": "failed", "cancelled": "cancelled"}.get(mode, "succeeded")
    assert where(place.home.root) == []
    assert not kept.exists()
    for look in (("show", job), ("show", job, "--json"), ("logs", job), ("ls", "--json")):
        looked = place.call(*look)
        assert looked.returncode == 0, looked.stderr
        assert CANARY not in looked.stdout + looked.stderr


def logs_of(place: Place) -> bytes:
    return b"".join(path.read_bytes() for path in place.home.local.glob("*/std*.log"))
