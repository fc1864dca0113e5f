"""What a rented virtual machine runs first, on machines that run it: who is let in, and what ends it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.base import Lease, NotYetReady
from backends.rented import vm
from backends.rented.contacts import Contacts
from orchestrator.clock import SystemClock
from tests.emulators.guest.container import SSHD_PORT, Container, Image, next_address
from tests.emulators.guest.vm import COMMAND, FILES

pytestmark = pytest.mark.needs("guests")

NOTICE = "notice() { [ -e /tmp/taken-back ]; }"
LET_IN_SECONDS = 60.0


class Vm:
    """One machine of this test, and how it ended."""

    def __init__(self, folder: Path, script: str) -> None:
        self.exits: list[int] = []
        self.address = next_address()
        image = Image(
            name="vm", command=COMMAND, env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root"}, memory_bytes=0,
            disk_bytes=None, gpus=[], has_gpu=False, files=FILES, told={"user-data": script},
        )  # fmt: skip
        self.guest = Container(
            image, folder, None, self.address, on_line=print, on_exit=lambda status, _: self.exits.append(status)
        )

    def path(self, name: str) -> Path:
        return self.guest.folder / "root" / name.strip("/")


def eventually(what: Callable[[], Any], why: str) -> None:
    end = time.monotonic() + LET_IN_SECONDS
    while not what():
        assert time.monotonic() < end, f"never: {why}"
        time.sleep(0.05)


@pytest.fixture
def contacts(tmp_path: Path) -> Contacts:
    return Contacts(tmp_path / "home")


@pytest.fixture
def start(tmp_path: Path, contacts: Contacts) -> Iterator[Callable[..., Vm]]:
    started: list[Vm] = []

    def new(ends_in: float = 3600, max_seconds: int = 3600) -> Vm:
        script = vm.boot_script(
            key="it's-1", ends_at=int(time.time() + ends_in), max_seconds=max_seconds,
            public_key=contacts.public_key(), provider_snippet=NOTICE,
        )  # fmt: skip
        started.append(Vm(tmp_path / f"vm-{len(started)}", script))
        return started[-1]

    yield new
    for each in started:
        each.guest.remove()


def test_root_is_let_in_by_our_key_and_runs_hear_that_the_machine_is_taken_back(
    start: Callable[..., Vm], contacts: Contacts
) -> None:
    machine = start()
    lease = Lease("it's-1", "test", "vm-1", SystemClock().now())

    def reached() -> bool:
        try:
            contacts.reach(lease, "vm-1", machine.address[0], SSHD_PORT, place=vm.PLACE_FOR_JOBS)
        except NotYetReady:
            return False
        return True

    eventually(reached, "our key is let in")
    place = machine.path(vm.PLACE_FOR_JOBS)
    assert place.stat().st_mode & 0o077 == 0
    (place / "job-1").mkdir()
    (place / "job-1" / "job.json").touch()
    assert not (place / "job-1" / "stop.request").exists()
    machine.path("/tmp/taken-back").touch()
    request = place / "job-1" / "stop.request"
    eventually(request.exists, "the run is asked to end")
    assert json.loads(request.read_text()) == {"reason": "preempted"}
    contacts.forget(lease)


@pytest.mark.parametrize(
    ("ends_in", "max_seconds"),
    [(vm.SPARE_SECONDS + 1, 3600), (3600, vm.SPARE_SECONDS + 1), (-100, 3600)],
    ids=["at the hour", "after so long, whatever the wall clock shows", "born too late"],
)
def test_it_powers_itself_off(start: Callable[..., Vm], ends_in: float, max_seconds: int) -> None:
    machine = start(ends_in, max_seconds)
    eventually(lambda: machine.exits, "the machine powers itself off")
    assert machine.exits == [0]
