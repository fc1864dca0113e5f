"""A provider of rented machines for tests, installed as third parties install theirs: by its entry point.

A machine is a folder with real processes: the real runner, the real watchdog. The provider keeps a meter of its own,
on the boot clock, from the birth of a machine to its end; tests compare our books with it. It can be told to fail.
All of its state are files below ``root``, so that any process, a machine's own `stop` command included, can reach it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backends.base import (
    AuthError,
    Billing,
    Fate,
    Gone,
    Lease,
    LeaseRequest,
    Lost,
    Machine,
    Need,
    NoCapacity,
    NotYetReady,
    Offer,
    Progress,
    RunStatus,
    SetupState,
    Transient,
)
from backends.billing import charge
from backends.channels.local import LocalMachine
from backends.failpoints import failpoint

RATE = 600_000
"""Micro-dollars per hour of the smallest machine."""

BILLING = Billing(disk_micros_per_gb_month=100_000, least_disk_bytes=20 * 10**9, egress_micros_per_gb=100_000)
FAR = replace(BILLING, egress_micros_per_gb=10_000_000)
"""Of a place from where a gigabyte costs $10."""
PLACES = ("here-1", "there-2")


def open_backend(root: Path, settings: Mapping[str, Any]) -> RentedCloud:
    """The provider below ``root``; there are no settings."""
    del settings
    return RentedCloud(root)


class Cloud:
    """The provider's side: machines, their meter, and what it was told to get wrong."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.received: dict[Path, int] = {}

    def fault(self, name: str) -> str | None:
        """What was said with a fault; None where it is not set. One with a number is used up by being asked for."""
        path = self.root / "faults" / name
        with self.locked():
            if not path.exists():
                return None
            text = path.read_text()
            if text.isdigit():
                path.write_text(str(int(text) - 1))
                return text if int(text) else None
            return text

    def set_fault(self, name: str, text: str = "yes") -> None:
        (self.root / "faults").mkdir(parents=True, exist_ok=True)
        (self.root / "faults" / name).write_text(text)

    def clear_fault(self, name: str) -> None:
        (self.root / "faults" / name).unlink(missing_ok=True)

    def machines(self) -> list[dict[str, Any]]:
        """Every machine that ever was, oldest first."""
        found = [json.loads(path.read_text()) for path in (self.root / "machines").glob("*.json")]
        return sorted(found, key=lambda machine: machine["began"])

    def machine(self, key: str) -> dict[str, Any] | None:
        """The machine under ``key`` that is not given back."""
        return next((m for m in self.machines() if m["key"] == key and m["state"] != "deleted"), None)

    def disk(self, machine: Mapping[str, Any]) -> Path:
        return self.root / "disks" / machine["id"]

    def save(self, machine: Mapping[str, Any]) -> None:
        folder = self.root / "machines"
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{machine['id']}.draft-{os.getpid()}"
        draft.write_text(json.dumps(machine))
        draft.replace(folder / f"{machine['id']}.json")

    def begin(self, request: LeaseRequest, place: str, rate: str | None) -> dict[str, Any]:
        machine = {
            "id": f"m-{len(self.machines()) + 1}-{os.getpid()}", "key": request.key, "offer": request.offer.name,
            "place": place, "state": "running", "began": boot_clock(), "ended": None,
            "created_at": datetime.now(UTC).isoformat(), "rate": int(rate) if rate else request.offer.micros_per_hour,
            "ends_at": request.ends_at.isoformat() if request.ends_at else None, "image": request.image,
            "told_rate": bool(rate), "avoid": sorted(request.avoid), "sent": 0,
        }  # fmt: skip
        self.disk(machine).mkdir(parents=True)
        self.save(machine)
        return machine

    def end(self, key: str, state: str) -> None:
        """Switch a machine off: the meter stops, whatever runs on it dies."""
        machine = self.machine(key)
        if machine is None:
            return
        self.save({**machine, "state": state, "ended": machine["ended"] or boot_clock()})
        self._kill_all(machine)

    def _kill_all(self, machine: Mapping[str, Any]) -> None:
        give_up = time.monotonic() + 30
        while (left := self.processes(machine)) and time.monotonic() < give_up:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def processes(self, machine: Mapping[str, Any]) -> list[int]:
        """Everything that lives on the machine, but not who asks."""
        mark, disk = f"GPUJOB_RUN={machine['key']}".encode(), str(self.disk(machine)).encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environment, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
                inside = mark in environment.split(b"\0") or (b"runner.py" in command and disk in command)
                if inside and int(folder.name) != os.getpid() and (folder / "stat").read_text().split()[2] != "Z":
                    found.append(int(folder.name))
        return found

    def count(self, disk: Path, size: int) -> None:
        """So many bytes have left a machine for this process."""
        if size:
            self.received[disk] = self.received.get(disk, 0) + size
            with self.locked():
                machine = next(m for m in self.machines() if self.disk(m) == disk)
                self.save({**machine, "sent": machine["sent"] + size})

    def meter_micros(self, machine: Mapping[str, Any]) -> int:
        """What the provider charges for it, by its own clock."""
        until = boot_clock() if machine["ended"] is None else machine["ended"]
        billing = FAR if machine["offer"] == "far" else BILLING
        return charge(machine["rate"], billing, until - machine["began"], egress_bytes=machine["sent"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class RentedCloud:
    """The client's side, as a backend is written. Its machines are reached like this one, and can be cut off."""

    name = "rented"

    def __init__(self, root: Path) -> None:
        self.cloud = Cloud(root)

    def offers(self, need: Need) -> Iterable[Offer]:
        del need
        places = [("small", 1, BILLING), ("big", 2, BILLING), *([("far", 1, FAR)] if self.cloud.fault("far") else [])]
        for name, factor, billing in places:
            yield Offer(
                self.name, name, factor * 8 * 10**9, 100 * 10**9, factor * 2, factor * RATE, billing=billing,
                source="the test's table", as_of="2026-11-27",
            )  # fmt: skip

    def create(self, request: LeaseRequest) -> Lease:
        self._api()
        if (said := self.cloud.fault("no_capacity")) and said in (request.offer.name, "yes"):
            raise NoCapacity(f"there is no {request.offer.name} left")
        rate = self.cloud.fault("rate")
        with self.cloud.locked():
            machine = self.cloud.machine(request.key)
            if machine is None:
                place = next((place for place in PLACES if place not in request.avoid), PLACES[0])
                machine = self.cloud.begin(request, place, rate)
        failpoint("rented.create:made")
        if self.cloud.fault("create_lost") or self.cloud.fault("unheard"):
            raise Lost("the reply to create did not come")
        return self._lease(machine)

    def find(self, key: str) -> Lease | None:
        self._api()
        machine = self.cloud.machine(key)
        if machine and self.cloud.fault("unheard"):
            raise Lost("it may be there, though no list shows it yet")
        return self._lease(machine) if machine else None

    def owned(self) -> Iterable[Lease]:
        self._api()
        return [self._lease(machine) for machine in self.cloud.machines() if machine["state"] != "deleted"]

    def delete(self, lease: Lease) -> None:
        self._api()
        if self.cloud.fault("delete_fails"):
            raise Transient("the provider does not answer to deletions")
        if self.cloud.fault("delete_refused"):
            raise AuthError("the key may not delete", advice="Mend it.")
        machine = self.cloud.machine(lease.key)
        if machine:
            self.cloud.end(lease.key, "deleted")
            failpoint("rented.delete:gone")
            shutil.rmtree(self.cloud.disk(machine), ignore_errors=True)

    def connect(self, lease: Lease) -> Machine:
        self._api()
        machine = self.cloud.machine(lease.key)
        if machine is None:
            raise Gone(f"machine {lease.id} does not exist any more", Fate.GONE)
        if machine["state"] != "running":
            raise Gone(f"machine {lease.id} is {machine['state']}", FATES[machine["state"]])
        if self.cloud.fault("never_ready") in ("yes", machine["place"]):
            raise NotYetReady(f"machine {lease.id} is still pulling its image")
        return CutMachine(self.cloud, self.cloud.disk(machine))

    def fate(self, lease: Lease) -> Fate:
        self._api()
        machine = self.cloud.machine(lease.key)
        return FATES[machine["state"]] if machine else Fate.GONE

    def billed_micros(self, lease: Lease) -> int | None:
        self._api()
        if self.cloud.fault("bill_late"):
            return None
        return sum(self.cloud.meter_micros(m) for m in self.cloud.machines() if m["id"] == lease.id)

    def setup_state(self) -> SetupState:
        return SetupState(True, "a provider for tests")

    def _api(self) -> None:
        if self.cloud.fault("api_down"):
            raise Transient("the provider does not answer")
        if self.cloud.fault("key_refused"):
            raise AuthError("the key is refused", advice="Mend it.")

    def _lease(self, machine: Mapping[str, Any]) -> Lease:
        disk = self.cloud.disk(machine)
        halt = f"{sys.executable} {__file__} {self.cloud.root} {machine['key']}"
        details: dict[str, Any] = {
            "place": machine["place"], "jobs": str(disk), "environments": str(disk / "environments"),
            "python": sys.executable, "stop": [] if self.cloud.fault("no_watchdog") else [halt],
        }  # fmt: skip
        if machine["told_rate"]:
            details["micros_per_hour"] = machine["rate"]
        if self.cloud.fault("too_dear") == machine["offer"]:
            details |= {"micros_per_hour": machine["rate"], "too_dear": "it costs more than was offered"}
        return Lease(machine["key"], self.name, machine["id"], datetime.fromisoformat(machine["created_at"]), details)


FATES = {"running": Fate.ALIVE, "ended": Fate.ENDED, "preempted": Fate.PREEMPTED, "deleted": Fate.GONE}


class CutMachine:
    """A machine that does not answer while the fault ``cut`` is set, or once it is off."""

    def __init__(self, cloud: Cloud, disk: Path) -> None:
        self._cloud = cloud
        self._disk = disk
        self._inner = LocalMachine(disk)

    def push(self, tree: Path, dest: str, progress: Progress) -> None:
        self._reach().push(tree, dest, progress)

    def start(self, job_dir: str, secrets: Mapping[str, str]) -> None:
        self._reach().start(job_dir, secrets)

    def status(self, job_dir: str) -> RunStatus:
        return self._reach().status(job_dir)

    def read(self, path: str, offset: int, limit: int = 1 << 20) -> bytes:
        data = self._reach().read(path, offset, limit)
        self._cloud.count(self._disk, len(data))
        return data

    def pull(self, path: str, dest: Path, progress: Progress) -> bool:
        machine = self._reach()
        while self._cloud.fault("slow"):
            progress(1, 10**9)
            time.sleep(0.1)
        done = 0

        def counted(now: int, total: int) -> None:
            nonlocal done
            self._cloud.count(self._disk, max(0, now - done))
            done = now
            progress(now, total)

        return machine.pull(path, dest, counted)

    @property
    def received_bytes(self) -> int:
        return self._cloud.received.get(self._disk, 0)

    def signal(self, job_dir: str, reason: str) -> None:
        self._reach().signal(job_dir, reason)

    def _reach(self) -> LocalMachine:
        on = any(m["state"] == "running" and self._cloud.disk(m) == self._disk for m in self._cloud.machines())
        if self._cloud.fault("cut") or not on:
            raise Transient("the machine does not answer")
        return self._inner


def boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":  # a machine's own `stop` command
    Cloud(Path(sys.argv[1])).end(sys.argv[2], "ended")
