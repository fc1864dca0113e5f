"""Running a job's own command twice, tiny, on this machine, and measuring what it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Offer
from orchestrator.clock import Clock, stamp
from orchestrator.home import Home
from orchestrator.lifecycle.outcome import Outcome
from orchestrator.lifecycle.patience import PatientBackend
from orchestrator.lifecycle.probes import probe_digest
from orchestrator.lifecycle.tiny import TinyEnd, TinyRun
from orchestrator.planning.probe import Probed, Run
from orchestrator.spec.files import SelectedFile
from orchestrator.spec.model import JobSpec, ProbeRuns


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
        settings = self._settings
        self.tell(f"running {self.variant} with {settings.batch_param} {batch} on this machine, at most "
                  f"{settings.timeout:g} s ...")  # fmt: skip
        run = TinyRun(
            self.home, self.backend, self.clock, self.spec, self.files, self.variant,
            settings.at(batch), settings.timeout, settings.memory, _unwatched,
        )  # fmt: skip
        return self._judged(run.on(offer, "probe"), batch)

    def _judged(self, end: TinyEnd, batch: int) -> Run:
        """The run's peaks. Raises ProbeFailed unless it went through."""
        verdict, record, param = end.verdict, end.record, self._settings.batch_param
        if verdict.outcome is not Outcome.SUCCEEDED:
            said = "\n".join(f"  {line}" for line in verdict.evidence)
            raise ProbeFailed(f"the run with {param} {batch} did not go through: {verdict.summary}\n{said}")
        if not (ram := record.get("peak_ram_bytes")):
            raise ProbeFailed(
                f"the run with {param} {batch} was over in {end.seconds:.2f} s, before it could be measured. "
                "Let it make at least two steps (probe.params)"
            )
        return Run(batch, int(ram), _positive(record.get("peak_vram_bytes")), round(end.seconds, 2))


def _positive(size: Any) -> int | None:
    return size if isinstance(size, int) and size > 0 else None


def _unwatched(logs: Path) -> None:
    del logs
