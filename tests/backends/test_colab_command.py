"""Colab by Google's command line: a stand-in `colab` on PATH, and runtimes that are real processes behind it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
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
    Lost,
    Machine,
    Need,
    NoCapacity,
    NotYetGone,
    Offer,
    Rejected,
    Transient,
)
from backends.billing import price_of
from backends.colab import by_command, command
from backends.colab.backend import ColabBackend
from backends.colab.command_words import Said, read_sessions, trouble
from backends.colab.settings import Settings
from tests.emulators.colab_cli import BIN, Colab

pytestmark = pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="NOT TESTED: finding runtimes' processes needs /proc"
)

MB = 10**6
CPU, L4 = "pay as you go CPU", "pay as you go L4"
PATIENCE = 60.0


def eventually(what: Callable[[], Any], why: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(Transient, NotYetGone):
            if value := what():
                return value
        time.sleep(0.05)
    raise AssertionError(f"never: {why}")


@pytest.fixture
def colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Colab]:
    account = Colab(tmp_path / "colab")
    for name, value in account.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    yield account
    account.close()


class Bench:
    """A home in front of the account."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.settings = Settings(credential=lambda: None, **{"plan": "payg", **settings})

    def anew(self, **settings: Any) -> ColabBackend:
        """The backend as another process opens it."""
        return ColabBackend(self.root, replace(self.settings, **settings))

    def offers(self, **settings: Any) -> dict[str, Offer]:
        return {offer.name: offer for offer in self.anew(**settings).offers(Need())}

    def request(self, key: str = "handsfree-a1", name: str = CPU, seconds: float = 600, **more: Any) -> LeaseRequest:
        ends, asked = datetime.now(UTC) + timedelta(seconds=seconds), {"ram_bytes": 100 * MB, "disk_bytes": MB} | more
        return LeaseRequest(key, self.offers()[name], max_seconds=seconds, ends_at=ends, **asked)


@pytest.fixture
def bench(colab: Colab, tmp_path: Path) -> Bench:
    return Bench(tmp_path / "home")


def gone(backend: ColabBackend, lease: Lease) -> bool:
    backend.delete(lease)
    return True


def news(colab: Colab) -> int:
    return sum(" new " in command for command in colab.commands)


def a_job(folder: Path, run: str) -> Path:
    (folder / "work").mkdir(parents=True)
    job = {
        "version": 1, "key": "handsfree-a1", "run": run, "env": {}, "base_env": None,
        "secret_names": ["S"], "setup": None,
        "limits": {"runtime": 60, "lease": None, "idle": None}, "memory": {"cap_bytes": None, "means": []}, "gpus": [],
        "grace": 5, "sample_every": 0.1,
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    return folder


def nobody_watches(done: int, total: int) -> None:
    del done, total


class TestWhatItSays:
    NEW = "[?] m-1 | Hardware: CPU | Shape: Standard | Variant: X\n[a] m-2 | Hardware: L4 | Shape: x | Variant: GPU"
    OLD = "[colab] A new version is available\n[?] m-1 | Hardware: CPU | Variant: DEFAULT"

    def test_lists_of_both_versions_are_read_and_nothing_is_not_an_empty_list(self) -> None:
        assert {each.endpoint: each.hardware for each in read_sessions(Said(0, self.NEW, "")).values()} == {
            "m-1": "CPU",
            "m-2": "L4",
        }
        assert list(read_sessions(Said(0, self.OLD, ""))) == ["m-1"]
        assert read_sessions(Said(0, "[colab] No active sessions found on server.", "")) == {}
        with pytest.raises(Transient, match="nothing that can be read"):
            read_sessions(Said(0, "", ""))

    @pytest.mark.parametrize(
        ("text", "code", "kind", "words"),
        [
            ("[colab] Backend rejected accelerator 'A100'. You may not", 1, NoCapacity, "error 400"),
            ("[colab] Allocation refused (precondition failed).", 1, NoCapacity, "error 412"),
            ("TooManyAssignmentsError: Failed to issue request", 1, NoCapacity, "error 412"),
            ("Error: No such command 'usage'.", 2, Rejected, "does not know that command"),
            ("Enter the authorization code: Aborted.", 1, AuthError, "not signed in"),
            ("│ TimeoutError: Timeout waiting for output │", 1, Transient, "silent for too long"),
            ("[colab] Session 'x' not found.", 1, Transient, "does not know the runtime"),
            ("╭─ Traceback ─╮\n│ x │\n╰──╯\nHTTPError: 502 Bad Gateway\x1b[31m", 1, Transient, "502 Bad Gateway"),
        ],
    )
    def test_refusals_are_told_apart_in_our_words(self, text: str, code: int, kind: type, words: str) -> None:
        error = trouble("do it", Said(code, "", text))
        assert type(error) is kind or isinstance(error, kind)
        assert words in str(error)
        assert "\x1b" not in str(error)


class TestOffers:
    def test_the_road_is_chosen_by_what_is_set_up_and_says_so(self, bench: Bench, colab: Colab) -> None:
        assert bench.anew().setup_state().summary.startswith("by command, as Google's command `colab` is there")
        assert "100 compute units left, 0 runtimes up" in bench.anew().setup_state().summary
        free = bench.anew(plan="free").setup_state()
        assert free.summary.startswith("by notebook, as `colab.plan` is free")
        assert "paid balance only" in bench.offers(plan="free", road="command")["free T4"].missing
        os.environ["PATH"] = os.environ["PATH"].removeprefix(f"{BIN}:")
        assert "is not installed" in bench.anew().setup_state().summary
        assert "pip install google-colab-cli" in bench.offers(road="command")[L4].missing

    def test_what_google_may_give_is_planned_with_at_its_worst(self, bench: Bench) -> None:
        found = bench.offers()
        assert "pay as you go A100 80GB SXM" not in found
        a100 = found["pay as you go A100 40GB"]
        assert (a100.vram_bytes, a100.micros_per_hour) == (40960 << 20, 751_248)
        assert found["pay as you go T4"].ram_bytes == 12_700 * MB, "not the high-RAM shape: nobody asked for it"
        assert "balance of 100 units lasts 58 h 29 min at 1.71 an hour" in found[L4].caveat
        assert not any("H100" in name for name in found), "nobody has noted what an hour takes"

    def test_the_balance_as_far_as_it_can_be_told(self, bench: Bench, colab: Colab) -> None:
        assert price_of(bench.offers(plan="pro")["Pro L4"]).micros(3600) == 0
        colab.balance = 0.0
        assert "your balance of compute units is 0" in bench.offers()[L4].missing
        assert bench.anew().setup_state().missing
        colab.old = True
        assert bench.offers()[L4].missing == ""
        assert "cannot tell your balance" in bench.offers()[L4].caveat
        colab.signed_in = colab.old = False
        assert "run `colab sessions` once" in bench.offers()[L4].missing
        assert not bench.anew().setup_state().ready


def test_a_job_goes_there_and_comes_home_and_no_secret_stays_on_this_disk(
    bench: Bench, colab: Colab, tmp_path: Path
) -> None:
    backend = bench.anew()
    lease = backend.create(bench.request())
    assert backend.create(bench.request()) == lease == bench.anew().find("handsfree-a1")
    assert [each.key for each in bench.anew().owned()] == ["handsfree-a1"]
    tree = a_job(tmp_path / "tree", "cat in > out; head -c 9000000 /dev/zero > large; echo $S | wc -c; echo no >&2")
    (tree / "work/in").write_text("hello")
    (tree / "work/empty").touch()
    machine: Machine = backend.connect(lease)
    colab.broken = 1
    with pytest.raises(Transient, match="Bad Gateway"):
        machine.push(tree, "handsfree-a1", nobody_watches)
    machine.push(tree, "handsfree-a1", nobody_watches)
    machine.start("handsfree-a1", {"S": "hush-hush"})
    machine.start("handsfree-a1", {"S": "hush-hush"})
    eventually(lambda: machine.status("handsfree-a1").over, "the end of the run")
    assert (machine.read("handsfree-a1/stdout.log", 0), machine.read("handsfree-a1/stderr.log", 1)) == (b"10\n", b"o\n")
    assert machine.read("handsfree-a1/work/out", 1, 3) == b"ell"
    for _ in (1, 2):
        assert machine.pull("handsfree-a1/work", tmp_path / "came", nobody_watches)
    assert (tmp_path / "came/out").read_text() == "hello"
    assert (tmp_path / "came/large").read_bytes() == bytes(9_000_000)
    assert (tmp_path / "came/empty").exists()
    assert not machine.pull("handsfree-a1/work/none", tmp_path / "none", nobody_watches)
    with pytest.raises(Rejected, match="leads out"):
        machine.pull("handsfree-a1/../../../etc/passwd", tmp_path / "none", nobody_watches)
    kept = [path.read_bytes() for path in bench.root.rglob("*") if path.is_file()]
    assert not any(b"hush-hush" in data for data in kept)
    assert not any("hush-hush" in command for command in colab.commands)
    assert gone(backend, lease)
    assert (colab.up(), backend.find("handsfree-a1"), list(backend.owned())) == ([], None, [])
    assert backend.used().units == pytest.approx(colab.units(), rel=0.5)
    backend.settled(lease)
    assert list(backend.records.all()) == []


class TestStarting:
    def test_no_name_is_asked_for_that_would_become_something_else(self, bench: Bench, colab: Colab) -> None:
        request = replace(bench.request(), offer=replace(bench.offers()[L4], name="pay as you go L40S"))
        with pytest.raises(Rejected, match="might become an A100"):
            bench.anew().create(request)
        assert news(colab) == 0

    def test_what_google_refuses_is_told_and_not_asked_again_at_once(self, bench: Bench, colab: Colab) -> None:
        colab.entitled = ("NONE",)
        with pytest.raises(NoCapacity, match="no runtime of that kind") as never:
            bench.anew().create(bench.request(name=L4))
        assert not never.value.busy_for_now
        colab.most, backend = 0, bench.anew()
        for _ in range(3):
            with pytest.raises(NoCapacity, match="error 412") as later:
                backend.create(bench.request())
            assert later.value.busy_for_now
        assert news(colab) == 2
        with pytest.raises(NoCapacity, match=r"colab\.patience"):
            bench.anew(patience=0.0).create(bench.request())
        assert list(backend.records.all()) == []

    def test_another_gpu_than_planned_is_given_back(self, bench: Bench, colab: Colab) -> None:
        colab.instead = {"L4": "G4"}
        with pytest.raises(NoCapacity, match=r"RTX PRO 6000.*8\.71 units an hour, and 1\.71 were planned; it was"):
            bench.anew().create(bench.request(name=L4))
        assert colab.up() == []

    def test_a_runtime_that_cannot_end_itself_is_given_back(self, bench: Bench, colab: Colab) -> None:
        colab.no_way_out = True
        with pytest.raises(NoCapacity, match="no means to end itself"):
            bench.anew().create(bench.request())
        assert colab.up() == []

    def test_one_whose_birth_nobody_heard_of_is_found_and_a_strangers_left_alone(
        self, bench: Bench, colab: Colab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        colab.lost_births = 1
        backend, request = bench.anew(), bench.request()
        lease = backend.create(request)
        assert [each.endpoint for each in colab.up()] == [lease.id]
        colab.lost_births, colab.list_lag = 1, 3600.0
        with pytest.raises(Lost):
            backend.create(replace(request, key="handsfree-a2"))
        with pytest.raises(Lost):
            bench.anew().find("handsfree-a2")
        assert news(colab) == 2, "not asked for again before lists have had their time"
        (stranger,) = (each for each in colab.up() if each.endpoint != lease.id)
        (stranger.folder / "content/thesis.ipynb").touch()
        monkeypatch.setattr(by_command, "SETTLED_SECONDS", 0.0)
        colab.list_lag = 0.0
        with pytest.raises(Transient):
            backend.create(replace(request, key="handsfree-a2"))
        assert stranger in colab.up(), "somebody works there"


class TestEnding:
    def test_it_ends_itself_when_its_time_is_over_though_nobody_watches(
        self, bench: Bench, colab: Colab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(by_command, "SETTLED_SECONDS", 0.5)
        monkeypatch.setattr(command, "LISTING_SECONDS", 0.1)
        backend = bench.anew()
        lease = backend.create(bench.request(seconds=8))
        eventually(lambda: not colab.up(), "the end of the runtime")
        eventually(lambda: backend.fate(lease) is Fate.GONE, "its end is seen")
        with pytest.raises(Gone, match="its own guard, ended it"):
            backend.connect(lease)
        eventually(lambda: gone(backend, lease), "the end of the lease")
        assert colab.units() < 0.08 * 60 / 3600

    def test_late_lists_neither_lose_a_runtime_nor_keep_a_dead_one(
        self, bench: Bench, colab: Colab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = bench.anew()
        lease = backend.create(bench.request())
        colab.list_lag = 3600.0
        for notes in (bench.root / "command").rglob("*.json"):  # as a version that drops them would leave it
            notes.unlink()
        with pytest.raises(NotYetGone):  # it is there, though no list shows it
            backend.delete(lease)
        assert backend.fate(lease) is Fate.ALIVE
        colab.list_lag, colab.late_stops = 0.0, 1.0
        with pytest.raises(NotYetGone):
            backend.delete(lease)
        assert colab.up() == []
        colab.late_stops = 0.0
        monkeypatch.setattr(by_command, "SETTLED_SECONDS", 0.0)
        assert gone(backend, lease)

    def test_one_without_a_claim_is_still_ours(self, bench: Bench, colab: Colab) -> None:
        bench.anew().create(bench.request())
        shutil.rmtree(bench.root / "claims")
        backend = bench.anew()
        (lease,) = backend.owned()
        assert lease.key == "handsfree-a1"
        assert gone(backend, lease)
        assert colab.up() == []

    def test_a_runtime_that_is_silent_for_long_is_asked_again(
        self, bench: Bench, colab: Colab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = bench.anew()
        machine = backend.connect(backend.create(bench.request()))
        monkeypatch.setattr(command, "EXEC_SECONDS", 0.0)
        with pytest.raises(Transient, match="silent for too long"):
            machine.status("handsfree-a1")
        monkeypatch.undo()
        assert all(" --timeout " in each for each in colab.commands if " exec " in each)
