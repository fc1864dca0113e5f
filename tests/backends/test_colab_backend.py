"""Colab without notebooks: offers, who gets a job, what is refused, what is sealed, how often Drive is asked."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backends.base import (
    AuthError,
    Fate,
    Gone,
    Lease,
    LeaseRequest,
    Need,
    NoCapacity,
    NotYetGone,
    NotYetReady,
    Offer,
    Rejected,
    RunPhase,
)
from backends.billing import price_of
from backends.colab.agent import session as agent
from backends.colab.agent.drive import Refused
from backends.colab.agent.seal import NotOurs, seal, unseal
from backends.colab.agent.session import LEASE_SECONDS
from backends.colab.agent.trees import Blob, Item, as_rows, digest_of, lacking, pack, unpack
from backends.colab.backend import ColabBackend
from backends.colab.carrying import NOTEBOOK, carried
from backends.colab.choosing import chosen
from backends.colab.offers import Used, kinds, offers
from backends.colab.records import Claim
from backends.colab.sessions import MARGIN, SessionFacts, session_facts
from backends.colab.settings import Settings
from backends.runner import runner
from tests.emulators.drive import DriveEmulator
from tests.emulators.faultproxy import FaultProxy

USD, GB = 1_000_000, 10**9
NOW = datetime(2026, 11, 28, tzinfo=UTC)
T4 = SessionFacts("aa", NOW, 1.0, "/r", "Tesla T4", 1, 16 * GB, 13 * GB, 60 * GB, 2, None, None, "")
NOTHING = Used()
PATIENCE = 60.0


def eventually(what: Callable[[], Any], why: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.02)
    raise AssertionError(f"never: {why}")


def listed(
    plan: str = "free", used: Used = NOTHING, sessions: tuple[SessionFacts, ...] = (), **more: Any
) -> dict[str, Offer]:
    settings = Settings(credential=lambda: "x", plan=plan, **more)  # type: ignore[arg-type]
    return {offer.name: offer for offer in offers(settings, used, sessions, "", "")}


class TestOffers:
    def test_a_subscription_of_ten_dollars_is_never_bought_for_a_job_of_three(self) -> None:
        offer = listed()["Pro A100 40GB"]
        assert "gpujob never buys" in offer.missing
        assert price_of(offer).seconds_for(3 * USD) == 0
        assert price_of(offer).micros(3600) == 9_990_000

    def test_what_is_paid_already_is_sunk_until_its_units_are_used(self) -> None:
        offer = listed("pro")["Pro A100 40GB"]
        assert (offer.missing, price_of(offer).micros(3600)) == ("", 0)
        gone = listed("pro", Used(units=100))["Pro A100 40GB"]
        assert price_of(gone).micros(3600) == 539_460, "5.4 units of $0.0999"

    def test_units_cost_what_they_cost(self) -> None:
        assert price_of(listed("payg")["pay as you go T4"]).micros(3600) == 118_881
        assert listed("payg")["Pro T4"].missing

    def test_free_hours_run_out(self) -> None:
        assert price_of(listed()["free T4"]).longest_seconds == 12 * 3600
        assert price_of(listed(used=Used(free_seconds=14 * 3600))["free T4"]).longest_seconds == 3600
        assert "free L4" not in listed()

    def test_a_session_that_is_up_tells_its_own_size_and_starts_at_once(self) -> None:
        there = listed(sessions=(T4,))["free T4"]
        assert (there.ram_bytes, there.vram_bytes, there.billing.wait_seconds) == (13 * GB, 16 * GB, 0.0)
        assert listed()["free T4"].billing.wait_seconds == 600

    def test_every_row_is_dated_and_has_a_source(self) -> None:
        assert all(kind.source and kind.as_of for kind in kinds())


class TestChoosing:
    request = LeaseRequest("job-a1", listed()["free T4"], max_seconds=600, disk_bytes=10 * GB)

    def test_the_smallest_that_fits_is_taken_alike_by_all(self) -> None:
        larger, later = replace(T4, id="bb", vram_bytes=23 * GB), replace(T4, id="cc", started_at=2.0)
        assert chosen(self.request, "free", [larger, later, T4], ()) is T4
        assert chosen(self.request, "free", [larger, later, T4], ["aa"]) is later

    @pytest.mark.parametrize(
        ("sessions", "waits", "word"),
        [
            ([], True, "press Run all"),
            ([replace(T4, lease="other-a1")], True, "is at work"),
            ([replace(T4, gpu="", vram_bytes=0)], False, "0 B of GPU memory"),
            ([replace(T4, ram_bytes=8 * GB)], False, "8 GB of RAM, 12.3 GB are needed"),
            ([replace(T4, disk_bytes=GB)], False, "1 GB of free disk"),
            ([replace(T4, gpu="NVIDIA H100 80GB HBM3")], False, "not on record"),
        ],
    )
    def test_why_none_is_taken(self, sessions: list[SessionFacts], waits: bool, word: str) -> None:
        with pytest.raises(NoCapacity, match=word) as no:
            chosen(self.request, "free", sessions, ())
        assert no.value.busy_for_now is waits

    def test_a_dearer_gpu_than_planned_is_not_taken_where_units_are_paid(self) -> None:
        request = replace(self.request, offer=listed("payg")["pay as you go T4"])
        dear = replace(T4, gpu="NVIDIA A100-SXM4-40GB", vram_bytes=42 * GB, ram_bytes=80 * GB)
        with pytest.raises(NoCapacity, match=r"5\.4 units an hour, and 1\.19 were planned"):
            chosen(request, "payg", [dear], ())


class TestWhatAgentsSay:
    GOOD = {
        "protocol": 1, "id": "aa", "started_at": 1.0, "root": "/r", "gpu": None, "gpu_count": 0, "vram_bytes": 0,
        "ram_bytes": 5, "disk_bytes": 5, "cpus": 2, "lease": None, "nonce": None, "ended": "", "refused": {},
    }  # fmt: skip

    def test_a_good_one_is_read(self) -> None:
        facts = session_facts(json.dumps(self.GOOD).encode(), NOW)
        assert facts
        assert facts.alive(NOW + timedelta(seconds=100))
        assert not facts.alive(NOW + timedelta(seconds=200))

    @pytest.mark.parametrize(
        "wrong", [{"protocol": 2}, {"ram_bytes": -1}, {"ram_bytes": "5"}, {"gpu": 7}, {"refused": []}, {"lease": 3}]
    )
    def test_another_is_passed_over(self, wrong: dict[str, Any]) -> None:
        assert session_facts(json.dumps(self.GOOD | wrong).encode(), NOW) is None
        assert session_facts(b"\xff{", NOW) is None


def test_secrets_open_with_the_same_token_only() -> None:
    text = seal({"A": "hush" * 50}, "token", "job-a1")
    assert unseal(text, "token", "job-a1") == {"A": "hush" * 50}
    assert b"hush" not in bytes.fromhex(text)
    for token, about, changed in (
        ("other", "job-a1", text),
        ("token", "job-a2", text),
        ("token", "job-a1", "00" + text[2:]),
    ):
        with pytest.raises(NotOurs):
            unseal(changed, token, about)


def test_a_tree_arrives_as_it_was_sent(tmp_path: Path) -> None:
    source, blobs_in, copy = tmp_path / "a", tmp_path / "blobs", tmp_path / "b"
    for name, size in {"x": 0, "deep/y": 10, "deep/z": 300_000, "w": 70_000}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode() * size)
    (source / "x").chmod(0o755)
    (source / "link").symlink_to("deep/y")
    items, blobs = pack(source, lambda link: str(link.readlink()))
    items = [Item(*row) for row in json.loads(json.dumps(as_rows(items)))]
    blobs_in.mkdir()

    def brought(blob: Blob) -> None:
        (blobs_in / blob.sha256).write_bytes(blob.data() or b"")

    for blob in blobs:
        brought(blob)
    assert len(blobs) == 2, "small files share one"
    unpack(copy, items, lambda sha256: blobs_in / sha256, modes=True)
    for path in source.rglob("*"):
        twin = copy / path.relative_to(source)
        assert twin.is_dir() if path.is_dir() else twin.read_bytes() == path.read_bytes()
    assert (copy / "x").stat().st_mode & 0o777 == 0o755
    assert (copy / "link").is_symlink()
    assert lacking(copy, items, modes=True) == []


# --- with an emulated Drive, and agents in threads ---


@pytest.fixture
def drive() -> Iterator[DriveEmulator]:
    with DriveEmulator() as emulator:
        yield emulator


def a_job(tree: Path, run: str) -> Path:
    """A folder with all that the runner needs for ``job-a1``. Whoever ends a run ends all of its key on this machine:
    a test that runs one needs a key of its own.
    """
    (tree / "work").mkdir(parents=True)
    job = {
        "version": 1, "key": "job-a1", "run": run, "env": {}, "base_env": None,
        "secret_names": ["S"], "setup": None, "limits": {"runtime": 600, "lease": None, "idle": None},
        "memory": {"cap_bytes": None, "means": []}, "gpus": [], "grace": 5, "sample_every": 0.1,
    }  # fmt: skip
    (tree / "job.json").write_text(json.dumps(job))
    return tree


class Bench:
    """A home with its backend, and agents on the same Drive."""

    def __init__(self, drive: DriveEmulator, root: Path, **settings: Any) -> None:
        self.drive, self.secret = drive, json.dumps(drive.sign_in())
        self.root = root
        self.settings = Settings(credential=lambda: self.secret, api=drive.url, **{"poll": 0.1, **settings})
        self.backend = self.anew()
        self.backend.accept_terms()
        self.backend.try_key(self.secret)

    def anew(self) -> ColabBackend:
        """The backend as another process opens it."""
        return ColabBackend(self.root, self.settings)

    @contextmanager
    def agent(self) -> Iterator[agent.Session]:
        session = agent.Session(json.loads(self.secret), pace=0.02)
        thread = threading.Thread(target=session.run)
        thread.start()
        eventually(lambda: session.id in [each.id for each in self.backend.post.sessions()], "the agent")
        try:
            yield session
        finally:
            session.stop()
            thread.join()

    def request(self, key: str, seconds: float = 600, name: str = "free CPU") -> LeaseRequest:
        offer = next(offer for offer in self.backend.offers(Need()) if offer.name == name)
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        return LeaseRequest(key, replace(offer, ram_bytes=GB), max_seconds=seconds, ends_at=ends)

    def deleted(self, lease: Any) -> bool:
        try:
            self.backend.delete(lease)
        except NotYetGone:
            return False
        return True

    def started(self, key: str, tree: Path) -> Lease:
        """A job that runs, by the next session."""
        job = json.loads((tree / "job.json").read_text()) | {"key": key}
        (tree / "job.json").write_text(json.dumps(job))
        lease = self.backend.create(self.request(key))
        eventually(lambda: self.taken(lease), "the agent takes it")
        machine = self.backend.connect(lease)
        machine.push(tree, key, lambda done, total: None)
        machine.start(key, {"S": "abc"})
        eventually(lambda: machine.status(key).phase is RunPhase.RUNNING, "the run")
        return lease

    def taken(self, lease: Any) -> bool:
        try:
            self.backend.connect(lease)
        except NotYetReady:
            return False
        return True


@pytest.fixture
def bench(drive: DriveEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("GPUJOB_DRIVE_API", drive.url)
    return Bench(drive, tmp_path)


def test_a_claim_is_found_again_and_never_given_twice(bench: Bench, drive: DriveEmulator) -> None:
    with bench.agent() as first, bench.agent():
        lease = bench.backend.create(bench.request("job-a1"))
        drive.faults.list_lag(3600)
        again = bench.anew()
        assert again.find("job-a1") == lease
        assert again.create(bench.request("job-a1")) == lease
        assert [each.key for each in again.owned()] == ["job-a1"]
        locked_out = ColabBackend(bench.root, replace(bench.settings, credential=lambda: None))
        with pytest.raises(AuthError, match="backends setup colab"):  # and never: nothing is rented
            locked_out.owned()
        drive.advance(1)
        assert lease.details["place"] == first.id
    assert drive.twins() == {}


def test_a_job_is_taken_run_and_given_back(bench: Bench, tmp_path: Path) -> None:
    tree = a_job(tmp_path / "tree", "cat in > out; echo $S | wc -c")
    (tree / "work/in").write_text("hello")
    with bench.agent():
        lease = bench.backend.create(bench.request("job-a1"))
        eventually(lambda: bench.taken(lease), "the agent takes it")
        machine = bench.backend.connect(lease)
        machine.push(tree, "job-a1", lambda done, total: None)
        machine.start("job-a1", {"S": "abc"})
        machine.start("job-a1", {"S": "abc"})
        eventually(lambda: machine.status("job-a1").over, "the end of the run")
        eventually(lambda: machine.read("job-a1/stdout.log", 0) == b"4\n", "its output")
        assert machine.read("job-a1/work/out", 1, 3) == b"ell"
        assert machine.pull("job-a1/work", tmp_path / "home", lambda done, total: None)
        assert (tmp_path / "home/out").read_text() == "hello"
        assert not machine.pull("job-a1/work/none", tmp_path / "none", lambda done, total: None)
        with pytest.raises(Rejected, match="leads out"):
            machine.pull("job-a1/../../../etc/passwd", tmp_path / "none", lambda done, total: None)
        eventually(lambda: bench.deleted(lease), "the end of the lease")
        assert bench.backend.find("job-a1") is None
        assert 0 < (bench.backend.held_seconds(lease) or 0) < 300


def test_a_session_that_goes_is_gone_and_one_that_does_not_fit_says_so(bench: Bench) -> None:
    with bench.agent() as session:
        request = bench.request("job-a1")
        lease = bench.backend.create(request)
        eventually(lambda: bench.taken(lease), "the agent takes it")
        small = replace(bench.request("job-a2"), disk_bytes=10**15)
        with pytest.raises(NoCapacity, match=f"session {session.id} .*free disk, 1000 TB are needed"):
            bench.backend.create(small)
    eventually(lambda: bench.backend.fate(lease) is Fate.GONE, "its end is seen")
    with pytest.raises(Gone, match="ended, or vanished"):
        bench.backend.connect(lease)
    assert bench.deleted(lease)


def test_a_runtime_with_a_gpu_becomes_the_offer(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho Tesla T4, 15360\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with bench.agent() as session:
        offer = bench.request("job-a1", name="free T4").offer
        assert (offer.source, offer.vram_bytes) == (f"session {session.id} says so of itself", 15360 << 20)
        lease = bench.backend.create(bench.request("job-a1", name="free T4"))
        assert lease.details["gpus"] == [0]
        assert bench.backend.used() == NOTHING
        eventually(lambda: bench.taken(lease), "the agent takes it")
        eventually(lambda: bench.deleted(lease), "the end of the lease")
        assert bench.backend.used().free_seconds > 0


def test_a_large_file_goes_on_where_its_upload_broke(bench: Bench, drive: DriveEmulator, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 80_000)
    drive.faults.broken_chunks(2)
    client = agent.Drive(json.loads(bench.secret), drive.url, sleep=lambda seconds: None)
    folder = client.folder(agent.MAILBOX)
    assert folder
    assert client.write_file(folder, "large", large, digest_of(large))
    assert not client.write_file(folder, "other", large, "0" * 64), "the file is another one by now"
    client.fetch(client.files(folder, "large")["large"], tmp_path / "copy", digest_of(large))
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert "other" not in client.files(folder)


def test_what_long_gone_agents_left_is_removed(bench: Bench, drive: DriveEmulator) -> None:
    with bench.agent():
        pass
    bench.backend.post.sweep()
    assert [file.name for file in drive.files() if file.name.startswith("agent-")]
    mailbox, writers = bench.backend.post.mailbox, (bench.anew().post.drive, bench.anew().post.drive)
    drive.faults.list_lag(60, times=1)
    for number, writer in enumerate(writers):  # one that died, and the next, whom the list does not show its file
        writer.put_bytes(mailbox, "claim-job-a1.json", b"%d" % number)
        drive.advance(1)
    assert len(drive.twins()) == 1
    drive.advance(3 * 86400)
    bench.backend.post.sweep()
    assert [file.name for file in drive.files() if file.name.startswith(("agent-", "claim-"))] == []


def test_an_agent_that_lost_its_lease_ends_its_run_and_writes_nothing_over_its_successor(
    bench: Bench, drive: DriveEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line to Drive is cut. Its own clock decides, before home may count it as gone."""
    tree = a_job(tmp_path / "tree", "echo at work; sleep 600")
    with FaultProxy(("127.0.0.1", int(drive.url.rpartition(":")[2]))) as line:
        monkeypatch.setenv("GPUJOB_DRIVE_API", f"http://127.0.0.1:{line.port}")
        with bench.agent() as first:
            lease = bench.started("fenced-a1", tree)
            line.refuse()
            line.cut()
            monkeypatch.setattr(agent, "LEASE_SECONDS", 1.0)
            eventually(lambda: not runner.carriers("fenced-a1"), "the end of its run, by itself")
            monkeypatch.setattr(agent, "LEASE_SECONDS", LEASE_SECONDS)
            assert bench.backend.fate(lease) is Fate.ALIVE, "home still thinks that it runs"
            drive.advance(LEASE_SECONDS + MARGIN.total_seconds() + 1)
            eventually(lambda: bench.backend.fate(lease) is Fate.GONE, "home counts it as gone")
            monkeypatch.setenv("GPUJOB_DRIVE_API", drive.url)
            with bench.agent() as second:
                eventually(lambda: bench.deleted(lease), "the end of the lease")
                successor = bench.started("fenced-a2", tree)
                assert successor.details["place"] == second.id
                line.accept()
                sessions = bench.backend.post.sessions
                eventually(lambda: first.id in [each.id for each in sessions(fresh=True)], "the first is back")
                (back,) = (each for each in sessions() if each.id == first.id)
                assert (back.lease, back.nonce) == (None, None), "it does not claim what it has lost"
                written = {file.name for file in drive.files() if lease.id in file.parents}
                assert written == set(), "it wrote into the folder of a lease that is over"
                assert bench.backend.connect(successor).status("fenced-a2").phase is RunPhase.RUNNING
                eventually(lambda: bench.deleted(successor), "the end of the lease")


def test_a_hundred_waiting_jobs_ask_drive_no_more_than_one(
    bench: Bench, drive: DriveEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute of a worker whose hundred jobs ask twice a second: one listing for each `colab.poll`, whoever asks."""
    at = time.monotonic()
    monkeypatch.setattr("backends.colab.post.time.monotonic", lambda: at)
    waiting = ColabBackend(bench.root, replace(bench.settings, poll=2.0))
    request = bench.request("job0-a1")
    drive.advance(120)
    before = len(drive.requests)
    for half_second in range(120):
        at += 0.5
        drive.advance(0.5)
        for number in range(100) if half_second % 20 == 0 else range(3):
            with pytest.raises(NoCapacity, match="Run all"):
                waiting.create(replace(request, key=f"job{number}-a1"))
    asked = len(drive.requests) - before
    assert asked <= 32, f"{asked} requests in a minute"
    assert drive.busiest_minute() < drive.settings.units_per_minute_per_user / 50


def test_nothing_is_had_without_consent_or_access(drive: DriveEmulator, tmp_path: Path) -> None:
    nobody = ColabBackend(tmp_path / "a", Settings(credential=lambda: None))
    assert all("backends setup colab" in offer.missing for offer in nobody.offers(Need()))
    assert (nobody.setup_state().ready, list(nobody.owned())) == (False, [])
    secret = json.dumps(drive.sign_in())
    unasked = ColabBackend(tmp_path / "b", Settings(credential=lambda: secret, api=drive.url))
    offer = next(offer for offer in unasked.offers(Need()) if offer.name == "free T4")
    assert "gpujob colab terms --accept" in offer.missing
    with pytest.raises(AuthError, match="consent"):
        unasked.create(LeaseRequest("job-a1", offer, max_seconds=60))


def test_an_agent_sends_its_token_to_google_or_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUJOB_DRIVE_API", "https://example.com")
    with pytest.raises(Refused, match="token is sent to Google"):
        agent.Session({"refresh_token": "x"})


def test_a_torn_line_of_notes_is_passed_over(tmp_path: Path) -> None:
    backend = ColabBackend(tmp_path, Settings(credential=lambda: None))
    backend.records.note_used("free T4", 3600, 1.19, time.time())
    backend.records.note_used("Pro L4", 3600, 1.71, time.time())
    with (tmp_path / "used.jsonl").open("a") as file:
        file.write('{"offer": "free T')
    assert backend.used() == Used(3600, 1.71)
    assert Claim("k", "free T4", "a", "n", 0.0).folder == ""


def test_the_agent_is_of_a_python_that_colab_has_and_brings_all_it_imports(tmp_path: Path) -> None:
    files = carried(NOTEBOOK)
    for name, text in files.items():
        ast.parse(text, name, feature_version=(3, 10))
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from backends.colab.agent import session as s; print(s.PROTOCOL)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.strip() == str(agent.PROTOCOL), done.stderr


@pytest.mark.parametrize(
    "rows",
    [
        [["d", "", 0, 0, 0, "", "", 0], ["f", "../../evil", 1, 0, 0, "", "a" * 64, 0]],
        [["d", "", 0, 0, 0, "", "", 0], ["l", "link", 0, 0, 0, "/etc", "", 0]],
        [["f", "", 1, 0, 0, "", "../../evil", 0]],
        [["f", "", 1, 0, 0, "", "a" * 64, -5]],
        [["f", "", 10**13, 0, 0, "", "a" * 64, 0]],
        [["f", ""]],
        {"f": 1},
    ],
)
def test_nothing_is_believed_that_no_folder_can_hold(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Any
) -> None:
    monkeypatch.setattr("backends.colab.agent.work.as_rows", lambda items: rows)
    (tmp_path / "tree").mkdir()
    with bench.agent():
        lease = bench.backend.create(bench.request("job-a1"))
        eventually(lambda: bench.taken(lease), "the agent takes it")
        machine = bench.backend.connect(lease)
        machine.push(tmp_path / "tree", "job-a1", lambda done, total: None)
        with pytest.raises(Rejected):
            machine.pull("job-a1", tmp_path / "home", lambda done, total: None)
    assert not (tmp_path / "home").exists()
