"""This machine as a backend: its CPU, and each of its NVIDIA GPUs.

A lease is a small file in the backend's own folder. Leases share the machine's RAM and CPUs; a GPU has one
holder at a time. Nothing here runs a job: that is the runner's work, reached through the local channel.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backends.base import Lease, LeaseRequest, Machine, Need, NoCapacity, Offer, Rejected, SetupState
from backends.billing import electricity
from backends.channels.local import LocalMachine
from backends.failpoints import failpoint
from backends.hardware import SPILLS, Gpu, boot_clock, boot_id, find_gpus, spills_to_ram, total_ram
from backends.units import format_size

RAM_KEPT_FREE = 0.1
"""Share of this machine's RAM that jobs never get: it belongs to the person sitting there."""

RAM_UNDECLARED = 1_000_000_000
"""Bytes that a CPU job which declares no RAM is counted with when several run at once."""


WORTH_SAYING = 100_000_000
"""VRAM in use by others from which on it is told."""


def open_backend(root: Path, settings: Mapping[str, Any]) -> LocalBackend:
    """The backend over ``root``; settings: ``price_per_hour`` and ``price_per_kwh`` in micro-dollars, ``watts`` drawn
    at work, ``slots``.
    """
    power = electricity(int(settings.get("watts", 0)), int(settings.get("price_per_kwh", 0)))
    return LocalBackend(
        root=root,
        micros_per_hour=int(settings.get("price_per_hour", 0)) + power,
        slots=int(settings.get("slots", 0)) or os.cpu_count() or 1,
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """A lease as its file holds it. Times are of this boot's monotonic clock, which no one can set."""

    key: str
    offer: str
    gpus: tuple[int, ...]
    ram_bytes: int
    created_at: str
    boot: str
    began: float
    ended: float | None = None


class LocalBackend:
    """This machine. Needs no account, no Docker, no root and no system service."""

    name = "local"

    def __init__(self, root: Path, micros_per_hour: int = 0, slots: int = 1) -> None:
        self._root = root
        self._leases = root / "leases"
        self._rate = micros_per_hour
        self._slots = slots

    def offers(self, need: Need) -> Iterable[Offer]:
        """The CPU, each GPU by itself, and where several are needed that many of a kind; all share RAM and disk.

        Of VRAM a GPU offers what is free now, or what will be once the job of ours that holds it is gone.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        cpu = Offer(
            backend=self.name,
            name="cpu",
            ram_bytes=_usable_ram(),
            disk_bytes=shutil.disk_usage(self._root).free,
            cpus=os.cpu_count() or 1,
            micros_per_hour=self._rate,
            shared=True,
            source="this machine",
            as_of=datetime.now(UTC).date().isoformat(),
        )
        yield cpu
        gpus, held = find_gpus(), self._holders()
        gpus = [replace(gpu, vram_used_bytes=0) if gpu.index in held else gpu for gpu in gpus]
        for gpu in gpus:
            yield _with_gpus(cpu, f"gpu{gpu.index}", [gpu])
        count = need.gpu.count if need.gpu else 1
        for name in sorted({gpu.name for gpu in gpus}) if count > 1 else ():
            alike = [gpu for gpu in gpus if gpu.name == name]
            if len(alike) >= count:
                yield _with_gpus(cpu, f"{count} x {name}", alike[:count])

    def create(self, request: LeaseRequest) -> Lease:
        """Take a slice of this machine. Raises NoCapacity (busy for now) while others hold it."""
        with self._locked():
            if held := self._load(request.key):
                return self._lease(held)
            ram = request.ram_bytes or RAM_UNDECLARED
            gpus = self._free_gpus(request.offer)
            self._check_free(request.offer, ram)
            held = _Held(
                key=request.key,
                offer=request.offer.name,
                gpus=gpus,
                ram_bytes=ram,
                created_at=datetime.now(UTC).isoformat(),
                boot=boot_id(),
                began=boot_clock(),
            )
            self._save(held)
            return self._lease(held)

    def find(self, key: str) -> Lease | None:
        """The slice that ``key`` holds, if it holds one."""
        held = self._load(key)
        return self._lease(held) if held and held.ended is None else None

    def owned(self) -> Iterable[Lease]:
        """Every slice that is held."""
        return [self._lease(held) for held in self._all() if held.ended is None]

    def delete(self, lease: Lease) -> None:
        """End whatever still runs there and free the slice. Raises NotYetGone while a process is dying."""
        LocalMachine(self._root).sweep(lease.key, lease.key)
        failpoint("local.delete:swept")
        with self._locked():
            held = self._load(lease.key)
            if held and held.ended is None:
                self._save(_ended(held))
        failpoint("local.delete:freed")
        self._remove(lease.key)

    def _remove(self, key: str) -> None:
        """Remove the job directory, moved away first: a runner that is just being started finds it gone."""
        place, gone = self._root / key, self._root / f"{key}.gone"
        if place.exists():
            shutil.rmtree(gone, ignore_errors=True)
            place.rename(gone)
            LocalMachine(self._root).sweep(gone.name, key)
        shutil.rmtree(gone, ignore_errors=True)

    def settled(self, lease: Lease) -> None:
        """Drop the note of a lease that is over and accounted for."""
        self._path(lease.key).unlink(missing_ok=True)

    def connect(self, lease: Lease) -> Machine:
        """This machine is always there."""
        del lease
        return LocalMachine(self._root)

    def held_seconds(self, lease: Lease) -> float | None:
        """How long the slice was held, by the boot clock; None if the machine was restarted in between."""
        held = self._load(lease.key)
        if held is None or held.boot != boot_id():
            return None
        return (held.ended if held.ended is not None else boot_clock()) - held.began

    def setup_state(self) -> SetupState:
        """Always ready; says what this machine is."""
        gpus = ", ".join(gpu.name for gpu in find_gpus()) or "no NVIDIA GPU"
        return SetupState(
            True, f"{platform.system()}, {os.cpu_count()} CPUs, {format_size(total_ram())} of RAM, {gpus}"
        )

    def _lease(self, held: _Held) -> Lease:
        details = {
            "offer": held.offer,
            "gpus": list(held.gpus),
            "lease_began": held.began,
            "own_machine": True,
            "jobs": str(self._root),
            "environments": str(self._root / "environments"),
            "input_cache": str(self._root / "inputs"),
            "python": sys.executable,
        }
        return Lease(held.key, self.name, held.key, datetime.fromisoformat(held.created_at), details)

    def _free_gpus(self, offer: Offer) -> tuple[int, ...]:
        """As many GPUs of the offer's kind as it has, that nobody holds. Raises NoCapacity."""
        if not offer.gpu_count:
            return ()
        alike = [gpu.index for gpu in find_gpus() if gpu.name == offer.gpu]
        wanted = [int(offer.name.removeprefix("gpu"))] if offer.gpu_count == 1 else alike
        holders = self._holders()
        free = [gpu for gpu in wanted if gpu in alike and gpu not in holders]
        if len(free) < offer.gpu_count:
            taken = ", ".join(f"GPU {gpu} is held by {holders[gpu]}" for gpu in wanted if gpu in holders)
            raise NoCapacity(taken or f"{offer.gpu} is not in this machine any more", busy_for_now=bool(taken))
        return tuple(free[: offer.gpu_count])

    def _holders(self) -> dict[int, str]:
        """The keys of the leases that hold a GPU, by its index."""
        return {gpu: held.key for held in self._all() if held.ended is None for gpu in held.gpus}

    def _check_free(self, offer: Offer, ram: int) -> None:
        others = [held for held in self._all() if held.ended is None]
        if not offer.gpu_count and sum(1 for held in others if not held.gpus) >= self._slots:
            raise NoCapacity(f"all {self._slots} places for CPU jobs are taken", busy_for_now=True)
        used = sum(held.ram_bytes for held in others)
        if ram > offer.ram_bytes:
            raise Rejected(f"{format_size(ram)} of RAM asked for; this machine can give {format_size(offer.ram_bytes)}")
        if used + ram > offer.ram_bytes:
            raise NoCapacity(
                f"{format_size(used)} of {format_size(offer.ram_bytes)} of RAM are held by {len(others)} other jobs",
                busy_for_now=True,
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._leases.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._root / "leases.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, key: str) -> Path:
        return self._leases / f"{key}.json"

    def _all(self) -> list[_Held]:
        keys = sorted(path.stem for path in self._leases.glob("*.json")) if self._leases.is_dir() else []
        return [held for key in keys if (held := self._load(key))]

    def _load(self, key: str) -> _Held | None:
        try:
            data = json.loads(self._path(key).read_bytes())
        except FileNotFoundError:
            return None
        return _Held(**{**data, "gpus": tuple(data["gpus"])})

    def _save(self, held: _Held) -> None:
        """Replace the file in one step, so that a crash leaves the old one or the new one."""
        path = self._path(held.key)
        draft = path.with_suffix(".draft")
        with draft.open("w") as file:
            json.dump(asdict(held), file)
            file.flush()
            os.fsync(file.fileno())
        failpoint("local.lease:drafted")
        draft.replace(path)
        failpoint("local.lease:saved")


def _ended(held: _Held) -> _Held:
    return _Held(**{**asdict(held), "gpus": held.gpus, "ended": boot_clock()})


def _with_gpus(cpu: Offer, name: str, gpus: list[Gpu]) -> Offer:
    """The machine with ``gpus``, which are alike."""
    return replace(
        cpu,
        name=name,
        gpu=gpus[0].name,
        gpu_count=len(gpus),
        vram_bytes=min(gpu.usable_bytes for gpu in gpus),
        compute_capability=gpus[0].compute_capability,
        caveat="; ".join(_caveats(gpus)),
    )


def _caveats(gpus: list[Gpu]) -> Iterator[str]:
    """What is less, or other, than on a GPU that is rented."""
    taken = max(gpu.vram_used_bytes for gpu in gpus)
    if taken >= WORTH_SAYING:
        yield f"{format_size(taken)} of its VRAM are in use by the display and other programs"
    if spills_to_ram():
        yield SPILLS


def _usable_ram() -> int:
    return int(total_ram() * (1 - RAM_KEPT_FREE))
