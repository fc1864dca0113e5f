"""Rented machines: the reservation holds whoever is dead, nothing is lost sight of, no result is lost.

The provider is the test's own (`rented_cloud/`), its machines are real processes with the real runner and watchdog.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crash_kit import end_all, eventually, kill
from rented_kit import Rented, check_money, check_nothing_rented, provider_installed

from backends.runner import runner
from orchestrator.lifecycle.job import run_job
from orchestrator.lifecycle.worker import open_tools

QUICK = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir -p results; cp input results/copy; echo done",
    "results": ["results/"],
    "limits": {"runtime": "1m"},
}
WAITS = {
    "run": "mkdir -p results checkpoints; echo half > checkpoints/state; echo part > results/part;"
    " echo $GPUJOB_RUN >> $RUNS; while [ ! -e $RUNS.go ]; do sleep 0.1; done; echo all > results/part",
    "results": ["results/"],
    "checkpoints": ["checkpoints/"],
    "limits": {"runtime": "10m"},
}
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Rented]:
    with provider_installed():
        place = Rented(tmp_path / "place")
        yield place
        end_all(place)
        for machine in place.cloud.machines():
            place.cloud.end(machine["key"], "deleted")


def let_go(place: Rented) -> None:
    """The command that waits may end."""
    place.runs_file.with_name("runs.go").touch()


def run(place: Rented) -> None:
    done = place.call("worker", "--until-idle")
    assert done.returncode == 0, done.stderr


def check(place: Rented, job: str) -> None:
    check_nothing_rented(place)
    check_money(place, job)


def test_a_job_on_a_rented_machine(place: Rented) -> None:
    job = place.rent(QUICK, {"input": b"x" * 1000})
    run(place)
    assert place.job(job)["state"] == "succeeded", place.job(job)["summary"]
    assert place.results(job, 1) == {"results/copy": b"x" * 1000}
    check(place, job)
    (lease,) = place.rows("SELECT * FROM lease")
    (machine,) = place.cloud.machines()
    assert machine["ends_at"][:19] == lease["ends_at"][:19], "the machine is told at its birth when it ends"
    detail = json.loads(place.call("show", job, "--json").stdout)["attempts"][0]
    assert detail["cost_usd"] != "0.00"
    assert detail["provider_usd"] is not None


def test_the_provider_s_own_account_is_asked_for_until_it_shows(place: Rented) -> None:
    place.cloud.set_fault("bill_late")
    job = place.rent(QUICK, {"input": b"x"})
    run(place)
    first = json.loads(place.call("report", "--json").stdout)["total"]
    assert (first["provider_usd"], first["unbilled"]) == ("0.00", 1)
    place.cloud.clear_fault("bill_late")
    assert place.call("report", "--refresh").returncode == 0
    total = json.loads(place.call("report", "--json").stdout)["total"]
    (machine,) = place.cloud.machines()
    (bill,) = place.rows("SELECT * FROM bill")
    assert bill["provider_micros"] == place.cloud.meter_micros(machine)
    assert total["unbilled"] == 0
    assert 0 < float(total["provider_usd"]) <= float(total["usd"])
    check(place, job)


def test_a_machine_that_never_becomes_reachable_is_waste_and_its_place_is_avoided(place: Rented) -> None:
    place.home.config.write_text('[attempt]\nstart_deadline = "1s"\n')
    place.cloud.set_fault("never_ready", "here-1")
    job = place.rent(QUICK, {"input": b"x"})
    run(place)
    assert place.outcomes(job) == ["unreachable", "succeeded"]
    first, _ = place.attempts(job)
    assert "still pulling its image" in first["summary"]
    kinds = place.rows("SELECT kind, micros FROM charge WHERE attempt_id = ? AND micros > 0", first["id"])
    assert [row["kind"] for row in kinds] == ["waste"]
    assert [m["place"] for m in place.cloud.machines()] == ["here-1", "there-2"]
    check(place, job)
    report = json.loads(place.call("report", "--json").stdout)["total"]
    assert float(report["wasted_usd"]) > 0


def test_an_offer_that_fails_twice_is_left_alone_by_all_jobs_for_a_while(place: Rented) -> None:
    place.home.config.write_text('[attempt]\nstart_deadline = "1s"\n')
    place.cloud.set_fault("never_ready")
    job = place.rent({**QUICK, "limits": {"attempts": 4}}, {"input": b"x"})
    run(place)
    assert place.outcomes(job) == ["unreachable"] * 4
    check(place, job)
    spec = str(place.folder / "spec" / "job.yaml")
    planned = place.call("plan", spec, "--budget", "9", "--backend", "rented")
    assert planned.returncode == 3
    assert "it was paid for and never became usable" in planned.stdout
    assert "ago in here-1" in planned.stdout
    assert place.call("config", "set", "attempt.avoid", "0s").returncode == 0
    assert place.call("plan", spec, "--budget", "9", "--backend", "rented").returncode == 0


def test_a_lost_reply_leaves_one_machine(place: Rented) -> None:
    place.cloud.set_fault("create_lost", "1")
    job = place.rent(QUICK, {"input": b"x"})
    run(place)
    assert place.outcomes(job) == ["succeeded"]
    assert len(place.cloud.machines()) == 1
    check(place, job)


def test_the_machine_ends_by_itself_when_the_worker_is_dead(place: Rented) -> None:
    """The laptop is closed for ever: the reservation holds, and who looks later settles what it cost."""
    job = place.rent(WAITS)
    key = place.reserve(job, 40.0)
    with place.worker() as worker:
        eventually(place.runs, "the run")
        kill(worker)
    machine = place.machine(key)
    eventually(lambda: place.cloud.machines()[0]["state"] == "ended", "the machine's end by itself")
    eventually(lambda: place.cloud.processes(machine) == [], "the end of all that ran there")
    let_go(place)
    run(place)
    assert place.outcomes(job) == ["lost", "succeeded"]
    check_nothing_rented(place)
    for attempt in place.attempts(job):
        assert attempt["cost_micros"] <= attempt["reserved_micros"]


def test_the_worker_ends_the_machine_when_its_watchdog_is_dead(place: Rented) -> None:
    place.cloud.set_fault("no_watchdog")
    job = place.rent({**WAITS, "limits": {"runtime": "10m", "attempts": 1}})
    place.reserve(job, 40.0)
    run(place)
    assert place.outcomes(job) == ["budget"] or place.outcomes(job) == ["deadline"]
    assert place.results(job, 1) == {"results/part": b"part\n"}, "what it had made by then is at home"
    check_nothing_rented(place)


def test_a_fetch_that_takes_too_long_ends_with_the_reservation(place: Rented) -> None:
    """And the attempt is lost, not succeeded: what it made is not here."""
    place.cloud.set_fault("no_watchdog")
    place.cloud.set_fault("slow")
    job = place.rent({**QUICK, "limits": {"runtime": "1m", "attempts": 1}}, {"input": b"x"})
    place.reserve(job, 40.0, download=10**9)
    run(place)
    assert place.outcomes(job) == ["lost"]
    assert "before its results could be fetched" in place.job(job)["summary"]
    check_nothing_rented(place)


def test_a_worker_that_comes_back_too_late_deletes_the_machine(place: Rented) -> None:
    """Asleep until after the end, and the watchdog was dead: the first thing it does is to give the machine back."""
    place.cloud.set_fault("no_watchdog")
    job = place.rent({**WAITS, "limits": {"runtime": "10m", "attempts": 1}})
    key = place.reserve(job, 3600.0)
    with place.worker() as worker:
        eventually(place.runs, "the run")
        kill(worker)
    assert place.machine(key)["state"] == "running"
    store_time(place, key, "2026-01-01T00:00:00.000000Z")
    run(place)
    check_nothing_rented(place)
    assert place.outcomes(job) == ["budget"]


def store_time(place: Rented, key: str, ends_at: str) -> None:
    with closing(sqlite3.connect(place.home.journal)) as connection:
        connection.execute("UPDATE lease SET ends_at = ? WHERE key = ?", (ends_at, key))
        connection.commit()


def test_a_connection_cut_for_a_while_does_not_touch_the_run(place: Rented) -> None:
    job = place.rent(WAITS)
    with place.worker():
        eventually(place.runs, "the run")
        place.home.config.write_text("[attempt]\nlinger = 'for ever'\n")  # a slip of the user's ends nothing
        place.cloud.set_fault("cut")
        eventually(lambda: place.notes(job, "unreachable"), "the worker to see it")
        let_go(place)
        place.cloud.clear_fault("cut")
        eventually(lambda: place.job(job)["state"] == "succeeded", "the end")
    assert place.runs() == [f"{job}-a1"]
    assert len(place.notes(job, "unreachable")) == len(place.notes(job, "reached")) == 1
    assert place.results(job, 1) == {"results/part": b"all\n"}
    assert len([t for t in place.tries(job) if t["step"] == "execute"]) == 1
    check(place, job)


def test_a_preempted_machine_goes_on_elsewhere_from_its_checkpoint(place: Rented) -> None:
    place.home.config.write_text('[attempt]\nkeep_every = "1s"\n')
    job = place.rent(
        {
            **WAITS,
            "run": "mkdir -p results checkpoints; echo $GPUJOB_RUN >> $RUNS;"
            " if [ -e checkpoints/state ]; then cp checkpoints/state results/state; exit; fi;"
            " echo half > checkpoints/state; exec sleep 1000",
        }
    )
    with place.worker():
        kept = place.home.checkpoints(job, 1) / "checkpoints" / "state"
        eventually(kept.exists, "the checkpoint to come home while the run goes on")
        place.cloud.end(f"{job}-a1", "preempted")
        eventually(lambda: place.job(job)["state"] == "succeeded", "the next attempt")
    assert place.outcomes(job) == ["preempted", "succeeded"]
    assert place.results(job, 2) == {"results/state": b"half\n"}
    check(place, job)


def test_a_machine_that_is_taken_back_while_files_are_sent(place: Rented) -> None:
    place.cloud.set_fault("cut")
    job = place.rent(QUICK, {"input": b"x"})
    with place.worker():
        uploads = "SELECT * FROM step_try JOIN step ON step.id = step_id WHERE name = 'upload' AND step_try.error <> ''"
        eventually(lambda: place.rows(uploads), "an upload that fails")
        place.cloud.end(f"{job}-a1", "preempted")
        place.cloud.clear_fault("cut")
        eventually(lambda: place.job(job)["state"] == "succeeded", "the next machine")
    assert place.outcomes(job) == ["preempted", "succeeded"]
    check(place, job)


def live(place: Rented, job: str) -> dict[str, Any]:
    """The newest reading of the run, as whoever follows it sees it."""
    path = place.home.live(job)
    return json.loads(path.read_text()) if path.exists() else {}


@pytest.mark.parametrize(("state", "outcome"), [("ended", "lost"), ("deleted", "lost")])
def test_a_machine_that_vanishes_is_lost_and_the_next_one_is_tried(place: Rented, state: str, outcome: str) -> None:
    job = place.rent(WAITS)
    with place.worker():
        eventually(lambda: live(place, job).get("peak_ram_bytes"), "a reading of the run")
        place.cloud.end(f"{job}-a1", state)
        eventually(lambda: len(place.runs()) == 2, "the next attempt's run")
        let_go(place)
        eventually(lambda: place.job(job)["state"] == "succeeded", "the end")
    assert place.outcomes(job) == [outcome, "succeeded"]
    assert "the machine is gone" in place.attempts(job)[0]["summary"]
    assert any("RAM was" in line for line in place.attempts(job)[0]["evidence"]), "what was seen last is what is known"
    check(place, job)


def test_a_machine_that_costs_more_than_planned_is_held_for_less(place: Rented) -> None:
    place.cloud.set_fault("rate", "60000000")
    job = place.rent({**WAITS, "limits": {"runtime": "10m", "attempts": 1}})
    key = place.reserve(job, 3600.0)
    with place.worker():
        eventually(place.runs, "the run")
        described = runner.read_record(str(place.cloud.disk(place.machine(key)) / key / "job.json"))
        assert described["machine"]["lease"] < 60
        let_go(place)
        eventually(lambda: place.job(job)["state"] == "succeeded", "the end")
    assert "it may be held for" in place.notes(job, "price")[0]
    check(place, job)


def test_a_machine_that_is_too_dear_is_given_back_and_paid_for(place: Rented) -> None:
    place.cloud.set_fault("too_dear", "small")
    job = place.rent(QUICK, {"input": b"x"})
    place.reserve(job, 600.0, "small")
    run(place)
    assert place.outcomes(job) == ["no_capacity", "succeeded"]
    assert "it costs more than was offered" in place.attempts(job)[0]["summary"]
    assert [machine["offer"] for machine in place.cloud.machines()] == ["small", "big"]
    check(place, job)


def test_a_machine_that_nobody_heard_of_is_given_back_though_its_job_ends_first(place: Rented) -> None:
    """No list shows it until the job is cancelled and the worker that asked for it is dead: the next one waits."""
    place.cloud.set_fault("unheard")
    job = place.rent(QUICK, {"input": b"x"})
    with place.worker() as worker:
        eventually(lambda: place.notes(job, "waiting"), "waiting for it")
        place.cancel(job)
        eventually(lambda: in_doubt(place, job), "an end that has to wait")
        kill(worker)
    with place.worker():
        seen = len(in_doubt(place, job))
        eventually(lambda: len(in_doubt(place, job)) > seen, "the next worker to wait as well")
        assert place.job(job)["ended_at"] is None
        place.cloud.clear_fault("unheard")
        eventually(lambda: place.job(job)["state"] == "cancelled", "the end")
    assert len(place.cloud.machines()) == 1
    check(place, job)


def in_doubt(place: Rented, job: str) -> list[dict[str, Any]]:
    """Tries to give back what may be there."""
    return [each for each in place.tries(job) if each["step"] == "teardown" and "may be there" in (each["error"] or "")]


def test_a_machine_ends_by_itself_once_everything_is_fetched(place: Rented) -> None:
    """Its provider does not let us delete it: it is told that nobody needs it, and switches itself off."""
    place.cloud.set_fault("delete_fails")
    job = place.rent(QUICK, {"input": b"x"})
    with place.worker():
        eventually(lambda: [m["state"] for m in place.cloud.machines()] == ["ended"], "the machine's end by itself")
        assert place.results(job, 1) == {"results/copy": b"x"}
        place.cloud.clear_fault("delete_fails")
        eventually(lambda: place.job(job)["state"] == "succeeded", "the end")
    check(place, job)


def test_a_runner_that_stands_still_does_not_keep_a_machine(place: Rented, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, whose patience can be shortened; the runner is really stopped."""
    monkeypatch.setattr("orchestrator.lifecycle.executing.SILENT_SECONDS", 2.0)
    place.cloud.set_fault("no_watchdog")
    job = place.rent({**WAITS, "limits": {"runtime": "10m", "attempts": 1, "idle": "1s"}})
    tools = open_tools(place.home)
    with ThreadPoolExecutor(1) as pool:
        carried = pool.submit(run_job, tools, job)
        eventually(place.runs, "the run")
        key = f"{job}-a1"
        claim = place.cloud.disk(place.machine(key)) / key / "claim"
        os.kill(json.loads(claim.read_text())["pid"], signal.SIGSTOP)
        carried.result()
    assert place.outcomes(job) == ["lost"]
    assert "silent" in place.notes(job, "silent")[0]
    assert place.results(job, 1) == {"results/part": b"part\n"}, "what it left is at home all the same"
    tools.store.close()
    check(place, job)


def test_the_reaper_gives_back_what_no_attempt_owns(place: Rented) -> None:
    job = place.rent(QUICK, {"input": b"x"})
    run(place)
    from rented_cloud import RentedCloud

    from backends.base import LeaseRequest, Need

    backend = RentedCloud(place.home.root / "rented")
    offer = next(iter(backend.offers(Need())))
    backend.create(LeaseRequest(f"{job}-a1", offer))
    backend.create(LeaseRequest("of-another-journal-a1", offer))
    run(place)
    assert [lease.key for lease in backend.owned()] == ["of-another-journal-a1"], "what it knows, by itself"
    listed = place.call("reap")
    assert "of-another-journal-a1" in listed.stdout
    assert "this journal does not know" in listed.stdout
    assert "given back" in place.call("reap", "--yes").stdout
    assert list(backend.owned()) == []


def test_a_backend_that_cannot_be_asked_does_not_stop_the_others(place: Rented) -> None:
    job = place.rent(QUICK, {"input": b"x"})
    run(place)
    place.cloud.set_fault("api_down")
    said = place.call("reap")
    assert said.returncode == 1, "nobody knows what is rented there"
    assert "rented could not be asked" in said.stderr
    assert "as far as could be asked" in said.stdout
    place.submit({"run": "true"}, backends=("local",))
    run(place)
    assert place.job(job)["state"] == "succeeded"


def test_a_key_that_is_refused_in_mid_run_ends_nothing(place: Rented) -> None:
    """Every step that needs a machine which is there waits for the key to be mended; no try of them counts."""
    job = place.rent(WAITS)
    with place.worker() as worker:
        eventually(place.runs, "the run")
        kill(worker)
    place.cloud.set_fault("key_refused")
    with place.worker() as worker:
        (said,) = eventually(lambda: place.notes(job, "unreachable"), "a word on it")
        assert "the key is refused" in said
        let_go(place)
        place.cloud.set_fault("delete_refused")
        place.cloud.clear_fault("key_refused")
        refused = "SELECT * FROM step_try WHERE state = 'failed' AND error LIKE 'the key may not delete%'"
        eventually(lambda: place.rows(refused), "a refused deletion")
        assert place.job(job)["state"] == "running"
        place.cloud.clear_fault("delete_refused")
        eventually(lambda: place.job(job)["state"] == "succeeded", "the end")
        kill(worker)
    assert len(place.runs()) == 1
    check(place, job)


def test_a_lost_journal_does_not_hide_a_machine(place: Rented) -> None:
    place.rent(WAITS)
    with place.worker() as worker:
        eventually(place.runs, "the run")
        kill(worker)
    for path in place.home.root.glob("journal.sqlite*"):
        path.unlink()
    assert "is rented" in place.call("reap").stdout
    assert "given back" in place.call("reap", "--yes").stdout
    check_nothing_rented(place)
