"""One tiny run of a job's own command on this machine: it costs nothing and leaves nothing behind."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Lease, LeaseRequest, Machine, Offer, RunStatus
from backends.runner import INPUTS_PATH
from orchestrator.clock import Clock, stamp
from orchestrator.home import Home
from orchestrator.lifecycle.following import copy_logs
from orchestrator.lifecycle.jobfile import build_jobfile, input_list, kept_environment
from orchestrator.lifecycle.locks import try_lock
from orchestrator.lifecycle.logs import LOGS, log_tail
from orchestrator.lifecycle.outcome import ExitFacts, Verdict, classify
from orchestrator.lifecycle.patience import PatientBackend
from orchestrator.lifecycle.uploading import setup_of
from orchestrator.lifecycle.vault import found_now
from orchestrator.records.tables import Attempt
from orchestrator.spec.files import SelectedFile, snapshot
from orchestrator.spec.model import JobSpec, ResolvedVariant, Smoke

SAMPLE_SECONDS = 0.05
"""How often a tiny run is looked at, and its GPU: its peak may be there for a moment only."""
GPU_SECONDS = 0.3

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class TinyEnd:
    """How a tiny run ended: its exit ``record`` has peaks in bytes and the seconds, ``tails`` the end of each log."""

    verdict: Verdict
    record: Mapping[str, Any]
    tails: Mapping[str, bytes]

    @property
    def seconds(self) -> float:
        """How long the command itself ran."""
        return float(self.record.get("run_seconds") or 0.0)


@dataclass(frozen=True, slots=True)
class TinyRun:
    """A variant of a spec with these files, made small by ``tiny``, for a lease of ``backend``, this machine.

    ``timeout`` is in seconds, setup included; ``memory`` the most bytes of RAM, None where the variant's own cap and
    what the machine can give are enough. ``watch`` is called with the folder of its logs as they grow.
    """

    home: Home
    backend: PatientBackend
    clock: Clock
    spec: JobSpec
    files: Sequence[SelectedFile]
    variant: str
    tiny: Smoke
    timeout: float
    memory: int | None
    watch: Callable[[Path], None]

    def on(self, offer: Offer, purpose: str) -> TinyEnd:
        """Run it on ``offer``, under a key that begins with ``purpose``. Raises BackendError, MissingSecret."""
        found_now(self.spec.secrets, os.environ)
        key = f"{purpose}-{self.spec.name}-{secrets.token_hex(3)}"
        lock = self.home.tiny_lock(key)
        with try_lock(lock):  # while it is held the reaper leaves the lease alone; when its holder is killed it is free
            try:
                return self._leased(offer, key)
            finally:
                lock.unlink()

    def _leased(self, offer: Offer, key: str) -> TinyEnd:
        cap = min(each for each in (self._resolved.ram_cap_bytes, self.memory, offer.ram_bytes) if each)
        lease = self.backend.create(LeaseRequest(key, offer, cap))
        try:
            return self._run(self.backend.connect(lease), lease, offer, cap)
        finally:
            self.backend.delete(lease)
            if metered := self.backend.metered:
                metered.settled(lease)

    @property
    def _resolved(self) -> ResolvedVariant:
        return self.spec.resolved(self.variant, self.tiny)

    def _run(self, machine: Machine, lease: Lease, offer: Offer, cap: int) -> TinyEnd:
        with tempfile.TemporaryDirectory() as folder:
            outgoing, logs = Path(folder) / "outgoing", Path(folder) / "logs"
            self._write(outgoing, lease, offer, cap)
            machine.push(outgoing, lease.key, _unwatched)
            machine.start(lease.key, found_now(self.spec.secrets, os.environ))
            while not (status := machine.status(lease.key)).over:
                copy_logs(machine, lease.key, logs)
                self.watch(logs)
                self.clock.sleep(POLL_SECONDS)
            copy_logs(machine, lease.key, logs)
            self.watch(logs)
            return _ended(status, logs)

    def _write(self, outgoing: Path, lease: Lease, offer: Offer, cap: int) -> None:
        """The job directory."""
        snapshot(self.spec.workdir, self.files, outgoing / "work")
        if self.spec.inputs:
            (outgoing / "inputs.json").write_text(json.dumps(input_list(self.spec, lease)), encoding="utf-8")
            shutil.copyfile(INPUTS_PATH, outgoing / INPUTS_PATH.name)
        variant = self._resolved
        setup = setup_of(variant, outgoing / "work", lease)
        kept = kept_environment(os.environ)
        base = {**kept["values"], **{name: os.environ[name] for name in kept["withheld"]}}
        told = build_jobfile(self._bounded(), variant, self._attempt(lease, offer, cap), lease, base, setup)
        told |= {"sample_every": SAMPLE_SECONDS, "gpu_every": GPU_SECONDS}
        (outgoing / "job.json").write_text(json.dumps(told), encoding="utf-8")

    def _bounded(self) -> JobSpec:
        longest = min(self.timeout, self.spec.limits.runtime)
        limits = self.spec.limits.model_copy(update={"runtime": longest})
        return self.spec.model_copy(update={"limits": limits})

    def _attempt(self, lease: Lease, offer: Offer, cap: int) -> Attempt:
        """What the job file is built from; never recorded: a tiny run costs nothing and is no try of a job."""
        return Attempt(
            job_id=lease.key, number=1, key=lease.key, rank=1, backend=offer.backend, offer=offer.name, gpu=offer.gpu,
            variant=self.variant, ram_cap_bytes=cap, micros_per_hour=0, allowed_seconds=2 * self.timeout,
            reserved_micros=0, started_at=stamp(self.clock.now()),
        )  # fmt: skip


def _ended(status: RunStatus, logs: Path) -> TinyEnd:
    record = status.record
    tails = {name: log_tail(logs / name) for name in LOGS}
    said = "setup.log" if record.get("failed_phase") == "setup" else "stderr.log"
    facts = ExitFacts.from_record(
        record, phase=status.phase, stdout_tail=_text(tails["stdout.log"]), stderr_tail=_text(tails[said])
    )
    return TinyEnd(classify(facts), record, tails)


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _unwatched(done: int, total: int) -> None:
    del done, total
