"""R13: what is rented and not accounted for is found and given back; nothing without our mark is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from crash_kit import Place

from backends.base import Lease, LeaseRequest, Need
from backends.local import LocalBackend
from orchestrator.lifecycle.reaper import Discrepancy, discrepancies, forget_strays, mend
from orchestrator.lifecycle.tools import Tools
from orchestrator.lifecycle.worker import open_tools
from orchestrator.records.attempts import lease_is_live, open_attempt
from orchestrator.records.jobs import add_job
from orchestrator.records.tables import Attempt, Job

AT = "2026-01-02T03:04:05.000006Z"
SPEC: dict[str, Any] = {"run": "true"}


@pytest.fixture
def tools(place: Place) -> Iterator[Tools]:
    tools = open_tools(place.home)
    job = Job(id="j", name="j", budget_micros=0, priority="cost", spec="{}", options="{}", created_at=AT)
    add_job(tools.store, job, "new")
    yield tools
    tools.store.close()


@pytest.fixture
def backend(place: Place) -> LocalBackend:
    return LocalBackend(place.home.local, slots=9)


def rent(backend: LocalBackend, key: str) -> Lease:
    offer = next(iter(backend.offers(Need())))
    return backend.create(LeaseRequest(key, offer, ram_bytes=1_000_000))


def begin(tools: Tools, number: int) -> str:
    """An attempt under way, its intent to rent recorded."""
    key = f"j-a{number}"
    attempt = Attempt(
        job_id="j", number=number, key=key, rank=1, backend="local", offer="cpu", variant="v", micros_per_hour=0,
        allowed_seconds=60.0, reserved_micros=0, started_at=AT,
    )  # fmt: skip
    open_attempt(tools.store, attempt, "begun", {})
    return key


def end(tools: Tools, key: str) -> None:
    with tools.store.write() as session:
        session.connection().exec_driver_sql("UPDATE attempt SET state = 'ended' WHERE key = ?", (key,))


def found(tools: Tools) -> list[tuple[str, str]]:
    return [(each.finding.value, each.key) for each in discrepancies(tools)[0]]


def test_what_an_attempt_under_way_has_rented_is_accounted_for(tools: Tools, backend: LocalBackend) -> None:
    lease_is_live(tools.store, rent(backend, begin(tools, 1)))
    rent(backend, begin(tools, 2))  # created, and its name not recorded yet
    begin(tools, 3)  # intended, not created yet
    assert found(tools) == []


def test_an_orphan_is_given_back_with_all_that_runs_there(place: Place, tools: Tools, backend: LocalBackend) -> None:
    key = begin(tools, 1)
    lease_is_live(tools.store, rent(backend, key))
    stranger = rent(backend, "nobody-a1")
    end(tools, key)
    left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"GPUJOB_RUN": stranger.key})
    foreign = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"GPUJOB_RUN": "other"})
    note = place.home.local / "a file of somebody else"
    note.write_text("keep")
    assert found(tools) == [("orphan", key), ("orphan", stranger.key)]
    mended = [mend(tools, each) for each in discrepancies(tools)[0]]
    assert mended == ["given back", "given back"]
    assert found(tools) == []
    assert list(backend.owned()) == []
    assert left.wait(10) == -9
    assert foreign.poll() is None, "what does not carry the orphan's key is not touched"
    foreign.communicate(b"\n")
    left.communicate()
    assert note.read_text() == "keep"


def test_the_record_of_a_machine_that_is_gone_is_closed(tools: Tools, backend: LocalBackend) -> None:
    key = begin(tools, 1)
    lease = rent(backend, key)
    lease_is_live(tools.store, lease)
    backend.delete(lease)
    assert found(tools) == [], "its attempt is under way and will see to it"
    end(tools, key)
    assert found(tools) == [("ghost", key)]
    assert [mend(tools, each) for each in discrepancies(tools)[0]] == ["record closed"]
    assert found(tools) == []


def test_what_is_rented_while_the_reaper_looks_is_left_alone(tools: Tools, backend: LocalBackend) -> None:
    """Another worker opens an attempt and rents between the reaper's two looks."""

    class Busy(LocalBackend):
        def owned(self) -> Iterable[Lease]:
            rent(self, begin(tools, 1))
            return super().owned()

    tools.backends.get("local")._inner = Busy(backend._root, slots=9)
    assert found(tools) == []


def test_the_command_lists_by_default_and_mends_when_told(place: Place, tools: Tools, backend: LocalBackend) -> None:
    rent(backend, "nobody-a1")
    listed = place.call("reap")
    assert "nobody-a1" in listed.stdout
    assert "Nothing was touched" in listed.stdout
    assert [lease.key for lease in backend.owned()] == ["nobody-a1"]
    assert "given back" in place.call("reap", "--yes").stdout
    assert list(backend.owned()) == []
    assert "accounted for" in place.call("reap").stdout


def test_a_worker_reaps_by_itself(place: Place, tools: Tools, backend: LocalBackend) -> None:
    rent(backend, "nobody-a1")
    place.submit(SPEC)
    said = place.call("worker", "--until-idle")
    assert "nobody-a1" in said.stderr
    assert list(backend.owned()) == []


def test_findings_name_what_they_are_about(tools: Tools, backend: LocalBackend) -> None:
    rent(backend, "nobody-a1")
    one: Discrepancy = discrepancies(tools)[0][0]
    assert one.text == "local nobody-a1 (nobody-a1) is rented, but no attempt that is under way owns it"


def test_what_a_killed_submit_left_is_forgotten_and_what_belongs_to_a_job_is_kept(tools: Tools) -> None:
    for name in ("j", "never-recorded", "under-way"):
        folder = tools.home.folder(name)
        (folder / "source").mkdir(parents=True)
        secret = tools.home.secrets / f"{name}.json"
        secret.write_text("{}")
        if name != "under-way":
            for path in (folder, secret):
                os.utime(path, (0, 0))
    forget_strays(tools)
    assert sorted(path.name for path in tools.home.jobs.iterdir()) == ["j", "under-way"]
    assert sorted(path.name for path in tools.home.secrets.iterdir()) == ["j.json", "under-way.json"]


def test_a_rented_machine_of_a_job_that_has_ended_is_an_orphan_but_waiting_results_are_not(tools: Tools) -> None:
    keys = [begin(tools, number) for number in (1, 2)]
    for key, own in zip(keys, (True, False), strict=True):
        lease_is_live(tools.store, Lease(key, "local", key, datetime(2026, 1, 2, tzinfo=UTC), {"own_machine": own}))
    with tools.store.write() as session:
        session.connection().exec_driver_sql("UPDATE job SET state = 'failed'")
    assert [found.key for found in discrepancies(tools)[0]] == [keys[1]]
