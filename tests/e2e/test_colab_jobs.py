"""Colab end to end: the real command, the real notebook file in a real kernel, and an emulated Drive between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from colab_kit import ON_CPU, Colabber
from e2e_kit import eventually
from renter_kit import outcomes

from backends.colab.agent.session import LEASE_SECONDS
from backends.colab.notebook import notebook
from backends.colab.sessions import MARGIN
from backends.runner import runner
from tests.emulators.drive import DriveEmulator
from tests.emulators.drive.settings import OTHER
from tests.emulators.runpod import why_no_memory_limit

pytestmark = [pytest.mark.needs("ipykernel"), pytest.mark.needs("nbclient"), pytest.mark.timeout(600)]

GONE = LEASE_SECONDS + MARGIN.total_seconds() + 1
QUICK = "mkdir -p out/deep; echo $GPUJOB_RUN > out/key; printf '%s' \"$TOKEN\" | wc -c > out/deep/length; echo hello"
KEEPS = """
mkdir -p $HF_HOME $OLLAMA_MODELS; echo model | tee $HF_HOME/m.bin > $OLLAMA_MODELS/m.bin
echo $TOKEN > $HF_TOKEN_PATH
"""
SECRET = "hush-hush-hush"
RESUMES = """
mkdir -p out ck; [ -e ck/at ] && { cp ck/at out/resumed; exit 0; }
echo step-7 > ck/at; echo at work; sleep 600
"""
HOG = """
mkdir -p out; echo $HOW > out/how; [ $HOW = small ] && exit 0
exec python3 -S -c 'held = [b"x" * 10_000_000 for _ in range(200)]'
"""


def test_jobs_go_to_the_session_and_come_home(colabber: Colabber, drive: DriveEmulator) -> None:
    colabber.run("colab", "notebook", "keeping.ipynb", "--keep-models")
    runtime = colabber.up(notebook=colabber.cwd / "keeping.ipynb")
    detail = colabber.colab(colabber.job(QUICK + KEEPS, *ON_CPU, "secrets: [TOKEN]"), TOKEN=SECRET)
    kept = runtime.folder / "drive/MyDrive/gpujob-models"
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*.bin")) == ["huggingface/m.bin", "ollama/m.bin"]
    assert SECRET not in "".join(path.read_text() for path in kept.rglob("*") if path.is_file())
    assert outcomes(detail) == ["succeeded"]
    assert colabber.fetched(detail, 1, "out/key") == f"{detail['id']}-a1\n"
    assert int(colabber.fetched(detail, 1, "out/deep/length")) == len(SECRET)
    assert not any(SECRET.encode() in (file.content or b"") for file in drive.files()), "a secret lies on Drive"
    again = colabber.colab(colabber.job(QUICK, *ON_CPU, name="again"))
    assert outcomes(again) == ["succeeded"]
    assert colabber.left_in_mailbox() == []
    assert drive.busiest_minute() < drive.settings.units_per_minute_per_user / 2
    seen = colabber.json("colab", "status")
    (session,) = seen["sessions"]
    assert (session["gpu"], session["job"]) == (None, None)
    assert (seen["free_seconds_used_this_week"], seen["units_used_this_month"]) == (0, 0), "no GPU, no quota"
    colabber.run("colab", "end", session["id"])
    eventually(lambda: runtime.process.poll() is not None, "the end of the notebook")
    assert runtime.given_back, runtime.said


def test_the_kernel_kills_in_the_runtime_and_the_job_falls_to_the_next_rung(colabber: Colabber) -> None:
    if reason := why_no_memory_limit():
        pytest.skip(f"NOT TESTED: {reason}")
    runtime = colabber.up()
    variants = "variants: [{name: big}, {name: small, params: {how: small}, quality: 0.9}]"
    detail = colabber.colab(colabber.job(HOG, *ON_CPU, "env: {HOW: '{how}'}", "params: {how: big}", variants))
    killed, *others, fallen = outcomes(detail)
    assert (killed, fallen) == ("oom_host", "succeeded")
    assert set(others) <= {"no_capacity"}, "nobody opened a larger runtime"
    assert detail["attempts"][0]["signal"] == 9
    assert runtime.kills() > 0
    assert colabber.fetched(detail, len(others) + 2, "out/how") == "small\n"


def test_a_runtime_vanishes_and_another_session_goes_on_from_the_checkpoint(
    colabber: Colabber, drive: DriveEmulator
) -> None:
    runtime = colabber.up()
    job = colabber.colab_detached(colabber.job(RESUMES, *ON_CPU, "checkpoints: [ck/]"))
    colabber.until_kept(job, 1, "ck/at")
    runtime.vanish()
    colabber.up()
    drive.advance(GONE)
    detail = colabber.ended(job)
    assert outcomes(detail) == ["lost", "succeeded"]
    assert colabber.fetched(detail, 2, "out/resumed") == "step-7\n"
    assert colabber.left_in_mailbox() == []


def test_home_is_asleep_while_the_runtime_works_and_vanishes_and_nothing_is_lost(
    colabber: Colabber, drive: DriveEmulator, tmp_path: Path
) -> None:
    """One run is over before its runtime goes: it has succeeded. Another is in the middle: its checkpoint is there."""
    go = tmp_path / "go"
    runtimes = [colabber.up(), colabber.up()]
    works = f"mkdir -p out; until [ -e {go} ]; do sleep 0.2; done; "
    done = colabber.colab_detached(colabber.job(f"{works} echo 42 > out/answer", *ON_CPU, name="done"))
    half = colabber.colab_detached(colabber.job(works + RESUMES, *ON_CPU, "checkpoints: [ck/]", name="half"))
    for job in (done, half):
        eventually(lambda job=job: any(f"took {job}-a1" in each.said for each in runtimes), "both at work")  # type: ignore[misc]
        eventually(lambda job=job: runner.carriers(f"{job}-a1"), "both at work")  # type: ignore[misc]
    colabber.stop_workers(9)
    go.touch()
    eventually(lambda: any(state["whole"].get(f"{done}-a1") for state in states(drive)), "all of the one on Drive")
    path = f"{half}-a1/work/ck"
    eventually(lambda: any(path in state["kept"] for state in states(drive)), "the checkpoint of the other on Drive")
    for each in runtimes:
        each.vanish()
    drive.advance(GONE)
    colabber.up()
    colabber.run("resume", "--detach")
    assert outcomes(colabber.ended(done)) == ["succeeded"]
    detail = colabber.ended(half)
    assert outcomes(detail) == ["lost", "succeeded"]
    assert colabber.fetched(colabber.show(done), 1, "out/answer") == "42\n"
    assert colabber.fetched(detail, 2, "out/resumed") == "step-7\n"
    assert colabber.left_in_mailbox() == []


def states(drive: DriveEmulator) -> list[dict[str, Any]]:
    """What agents tell of their leases."""
    return [json.loads(file.content or b"") for file in drive.files() if file.name == "state.json"]


def test_two_sessions_never_run_one_job_twice(colabber: Colabber, drive: DriveEmulator, tmp_path: Path) -> None:
    """Three jobs for two sessions; then one stands still in the middle of a job, and wakes when it is too late."""
    runs, go, went_on = tmp_path / "runs", tmp_path / "go", tmp_path / "went-on"
    sessions = [colabber.up(), colabber.up()]
    waits = f"echo $GPUJOB_RUN >> {runs}; mkdir -p out; until [ -e {go} ]; do sleep 0.2; done"
    waits += f"; echo > {went_on}-$GPUJOB_RUN"
    jobs = [colabber.colab_detached(colabber.job(waits, *ON_CPU, name=f"job{n}")) for n in range(3)]
    eventually(lambda: runs.exists() and len(runs.read_text().split()) == 2, "two jobs at once")
    go.touch()
    details = [colabber.ended(job) for job in jobs]
    assert [outcomes(detail) for detail in details] == [["succeeded"]] * 3
    assert sorted(runs.read_text().split()) == sorted(f"{job}-a1" for job in jobs)

    go.unlink()
    job = colabber.colab_detached(colabber.job(waits, *ON_CPU, name="frozen"))
    eventually(lambda: f"{job}-a1" in runs.read_text(), "the run")
    asleep = next(each for each in sessions if f"took {job}-a1" in each.said)
    asleep.freeze()
    drive.advance(GONE)
    eventually(lambda: f"{job}-a2" in runs.read_text(), "the run on the other session")
    asleep.freeze(thaw=True)
    eventually(lambda: f"{job}-a1: the job is over" in asleep.said, "the end of the overtaken run")
    go.touch()
    assert outcomes(colabber.ended(job)) == ["lost", "succeeded"]
    assert not Path(f"{went_on}-{job}-a1").exists(), "the overtaken run went on"


def test_trouble_with_drive_loses_nothing(colabber: Colabber, drive: DriveEmulator) -> None:
    colabber.up()
    faults = drive.faults
    faults.list_lag(1.0)
    for fault in (faults.server_errors, faults.rate_limited, faults.lost_reply):
        fault(times=3)
    for fault in (faults.corrupt_uploads, faults.corrupt_downloads, faults.cut_downloads):
        fault(times=2)
    faults.rate_limited(times=3, status=429, retry_after=1)
    detail = colabber.colab(colabber.job(QUICK, *ON_CPU))
    assert outcomes(detail) == ["succeeded"]
    assert colabber.fetched(detail, 1, "out/key") == f"{detail['id']}-a1\n"
    drive.advance(2)
    assert not drive.twins()


def test_who_may_not_use_the_mailbox_is_told_what_to_do(colabber: Colabber, drive: DriveEmulator) -> None:
    """No secret in Colab; a token of another OAuth client; access taken back under a waiting agent."""
    other = json.dumps(drive.sign_in(client=OTHER))
    without, stranger, revoked = colabber.open_notebook(secret=""), colabber.open_notebook(secret=other), colabber.up()
    for runtime, words in (
        (without, "Add the secret GPUJOB_DRIVE_TOKEN"),
        (stranger, "There is no mailbox on this Drive that this token can see"),
        (revoked, "no longer accepts gpujob's access"),
    ):
        if runtime is revoked:
            assert any(file.name == "gpujob" for file in drive.files()), "there is one, and it is the same user's"
            drive.revoke()
            drive.expire_access_tokens()
        eventually(lambda runtime=runtime: runtime.process.poll() is not None, "the end of the notebook")  # type: ignore[misc]
        assert words in runtime.said, runtime.said
        assert not runtime.given_back
    said = colabber.refused("submit", colabber.job(QUICK, *ON_CPU), "--budget", "1", "--backend", "colab")
    assert "gpujob backends setup colab" in said


def test_the_kept_notebook_is_the_one_that_is_written() -> None:
    kept = Path(__file__).parents[2] / "deploy/colab/gpujob.ipynb"
    assert kept.read_text() == notebook(), "run `gpujob colab notebook deploy/colab/gpujob.ipynb`"
