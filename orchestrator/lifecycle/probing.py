"""Running a job's own command twice, tiny, on this machine, and measuring what it takes."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Lease, LeaseRequest, Machine, Offer, RunStatus
from backends.runner import INPUTS_PATH
from orchestrator.clock import Clock, stamp
from orchestrator.home import Home
from orchestrator.lifecycle.following import copy_logs
from orchestrator.lifecycle.jobfile import build_jobfile, input_list, kept_environment
from orchestrator.lifecycle.logs import log_tail
from orchestrator.lifecycle.outcome import ExitFacts, Outcome, classify
from orchestrator.lifecycle.patience import PatientBackend
from orchestrator.lifecycle.probes import probe_digest
from orchestrator.lifecycle.uploading import setup_of
from orchestrator.lifecycle.vault import Vault
from orchestrator.planning.probe import Probed, Run
from orchestrator.records.tables import Attempt
from orchestrator.spec.files import SelectedFile, snapshot
from orchestrator.spec.model import JobSpec, ProbeRuns, ResolvedVariant

SAMPLE_SECONDS = 0.05
"""How often a tiny run is looked at, and its GPU: its peak may be there for a moment only."""
GPU_SECONDS = 0.3

POLL_SECONDS = 0.05


class ProbeFailed(Exception):
    """Nothing was learned. The message says which run failed, how, and what to do."""


class NothingToProbe(ProbeFailed):
    """The spec does not say how its job is made tiny."""


@dataclass(frozen=True, slots=True)
class Prober:
    """Probes one variant of a spec with these files on ``backend``, this machine; ``tell`` hears what is going on."""

    home: Home
    backend: PatientBackend
    clock: Clock
    spec: JobSpec
    files: Sequence[SelectedFile]
    variant: str
    tell: Callable[[str], None]

    def probe(self) -> Probed:
        """Both runs. Raises ProbeFailed, NothingToProbe, BackendError, MissingSecret; nothing is left behind."""
        settings = self._settings
        offer = self._offer()
        runs = [self._measured(offer, batch) for batch in settings.batches]
        return Probed(
            self.spec.name, self.variant, probe_digest(self.spec, self.variant, self.files), settings.batch_param,
            (runs[0], runs[1]), offer.gpu, stamp(self.clock.now()),
        )  # fmt: skip

    @property
    def _settings(self) -> ProbeRuns:
        if self.spec.probe is None:
            raise NothingToProbe(
                "the spec has no probe section. Say how the job is made tiny: "
                "probe: {batch_param: batch, batches: [1, 2], params: {steps: 2}}"
            )
        return self.spec.probe

    def _offer(self) -> Offer:
        """This machine, with as many GPUs as the variant needs. Raises ProbeFailed."""
        need = self.spec.resolved(self.variant).need
        wanted = need.gpu.count if need.gpu else 0
        for offer in self.backend.offers(need):
            if offer.gpu_count == wanted and (not need.gpu or not need.gpu.names or offer.gpu in need.gpu.names):
                return offer
        kinds = f"{wanted} x {' or '.join(need.gpu.names) if need.gpu and need.gpu.names else 'a GPU'}"
        raise ProbeFailed(
            f"variant {self.variant!r} needs {kinds}, which this machine has not, and on a CPU it would show "
            "something else. Probe a variant with gpu: none (--variant), or probe where the GPU is"
        )

    def _measured(self, offer: Offer, batch: int) -> Run:
        param = self._settings.batch_param
        self.tell(f"running {self.variant} with {param} {batch} on this machine, at most "
                  f"{self._settings.timeout:g} s ...")  # fmt: skip
        key = f"probe-{self.spec.name}-{secrets.token_hex(3)}"
        vault = Vault(self.home)
        vault.keep(key, self.spec.secrets, os.environ)
        cap = min(each for each in (self._variant(batch).ram_cap_bytes, self._settings.memory, offer.ram_bytes) if each)
        lease = self.backend.create(LeaseRequest(key, offer, cap))
        try:
            return self._run(self.backend.connect(lease), lease, offer, batch, cap)
        finally:
            vault.forget(key)
            self.backend.delete(lease)
            if metered := self.backend.metered:
                metered.settled(lease)

    def _run(self, machine: Machine, lease: Lease, offer: Offer, batch: int, cap: int) -> Run:
        with tempfile.TemporaryDirectory() as folder:
            outgoing = Path(folder) / "outgoing"
            self._write(outgoing, lease, offer, batch, cap)
            machine.push(outgoing, lease.key, _unwatched)
            machine.start(lease.key, Vault(self.home).values(lease.key, self.spec.secrets))
            while not (status := machine.status(lease.key)).over:
                self.clock.sleep(POLL_SECONDS)
            copy_logs(machine, lease.key, Path(folder))
            return self._judged(status, Path(folder), batch)

    def _variant(self, batch: int) -> ResolvedVariant:
        return self.spec.resolved(self.variant, self._settings.at(batch))

    def _write(self, outgoing: Path, lease: Lease, offer: Offer, batch: int, cap: int) -> None:
        """The job directory of one run."""
        snapshot(self.spec.workdir, self.files, outgoing / "work")
        if self.spec.inputs:
            (outgoing / "inputs.json").write_text(json.dumps(input_list(self.spec, lease)), encoding="utf-8")
            shutil.copyfile(INPUTS_PATH, outgoing / INPUTS_PATH.name)
        variant = self._variant(batch)
        setup = setup_of(variant, outgoing / "work", lease)
        kept = kept_environment(os.environ)
        base = {**kept["values"], **{name: os.environ[name] for name in kept["withheld"]}}
        told = build_jobfile(self._bounded(), variant, self._attempt(lease, offer, cap), lease, base, setup)
        told |= {"sample_every": SAMPLE_SECONDS, "gpu_every": GPU_SECONDS}
        (outgoing / "job.json").write_text(json.dumps(told), encoding="utf-8")

    def _bounded(self) -> JobSpec:
        longest = min(self._settings.timeout, self.spec.limits.runtime)
        limits = self.spec.limits.model_copy(update={"runtime": longest})
        return self.spec.model_copy(update={"limits": limits})

    def _attempt(self, lease: Lease, offer: Offer, cap: int) -> Attempt:
        """What the job file is built from; never recorded: a probe costs nothing and is no try of a job."""
        return Attempt(
            job_id=lease.key, number=1, key=lease.key, rank=1, backend=offer.backend, offer=offer.name, gpu=offer.gpu,
            variant=self.variant, ram_cap_bytes=cap, micros_per_hour=0, allowed_seconds=2 * self._settings.timeout,
            reserved_micros=0, started_at=stamp(self.clock.now()),
        )  # fmt: skip

    def _judged(self, status: RunStatus, logs: Path, batch: int) -> Run:
        """The run's peaks. Raises ProbeFailed unless it went through."""
        record, param = status.record, self._settings.batch_param
        verdict = classify(
            ExitFacts.from_record(
                record, phase=status.phase, stdout_tail=_tail(logs / "stdout.log"),
                stderr_tail=_tail(logs / ("setup.log" if record.get("failed_phase") == "setup" else "stderr.log")),
            )
        )  # fmt: skip
        if verdict.outcome is not Outcome.SUCCEEDED:
            said = "\n".join(f"  {line}" for line in verdict.evidence)
            raise ProbeFailed(f"the run with {param} {batch} did not go through: {verdict.summary}\n{said}")
        ram = record.get("peak_ram_bytes")
        seconds = float(record.get("run_seconds") or 0.0)
        if not ram:
            raise ProbeFailed(
                f"the run with {param} {batch} was over in {seconds:.2f} s, before it could be measured. "
                "Let it make at least two steps (probe.params)"
            )
        return Run(batch, int(ram), _positive(record.get("peak_vram_bytes")), round(seconds, 2))


def _positive(size: Any) -> int | None:
    return size if isinstance(size, int) and size > 0 else None


def _tail(path: Path) -> str:
    return log_tail(path).decode("utf-8", errors="replace")


def _unwatched(done: int, total: int) -> None:
    del done, total
