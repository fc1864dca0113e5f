"""The smoke run: a job's own code with its ``smoke`` settings on this machine's CPU, before anything is rented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.units import format_duration, format_size
from orchestrator.clock import Clock
from orchestrator.home import Home
from orchestrator.lifecycle.outcome import Outcome
from orchestrator.lifecycle.patience import PatientBackend
from orchestrator.lifecycle.tiny import TinyEnd, TinyRun
from orchestrator.spec.files import SelectedFile
from orchestrator.spec.load import SpecError
from orchestrator.spec.model import JobSpec, Smoke
from orchestrator.spec.problems import Problem


@dataclass(frozen=True, slots=True)
class Smoked:
    """How the smoke run of a variant ended."""

    variant: str
    end: TinyEnd

    @property
    def passed(self) -> bool:
        """Whether the job may go on."""
        return self.end.verdict.outcome is Outcome.SUCCEEDED

    @property
    def note(self) -> str:
        """What is told of it with the job, in words and numbers."""
        peak = self.end.record.get("peak_ram_bytes")
        took = f"in {format_duration(self.end.seconds)}" + (f" with at most {format_size(peak)} of RAM" if peak else "")
        if self.passed:
            return f"the smoke run of {self.variant} went through on this machine {took}, before anything was rented"
        return f"the smoke run of {self.variant} did not go through: {self.end.verdict.summary}"

    def to_json(self) -> dict[str, Any]:
        """As ``submit --json`` prints it and the journal keeps it."""
        verdict, record = self.end.verdict, self.end.record
        return {
            "variant": self.variant,
            "outcome": verdict.outcome.value,
            "summary": verdict.summary,
            "evidence": list(verdict.evidence),
            "seconds": round(self.end.seconds, 2),
            "peak_ram_bytes": record.get("peak_ram_bytes"),
        }


def smoke_settings(spec: JobSpec) -> Smoke:
    """The spec's own. Raises SpecError where it has none: then there is nothing that could be run first."""
    if spec.smoke is None:
        hint = "say how the job is made tiny, such as smoke: {params: {steps: 2}}, or submit without --smoke-first"
        raise SpecError([Problem("the spec has no smoke section", str(spec.spec_path or spec.name), None, hint)])
    return spec.smoke


def smoke_run(
    home: Home,
    local: PatientBackend,
    clock: Clock,
    spec: JobSpec,
    files: Sequence[SelectedFile],
    variant: str,
    watch: Callable[[Path], None],
) -> Smoked:
    """Run the variant tiny on this machine's CPU, the same runner and setup as ever. ``watch`` sees its logs grow.

    Costs nothing; the lease is given back whatever happens. Raises SpecError, BackendError, MissingSecret.
    """
    tiny = smoke_settings(spec)
    need = spec.resolved(variant, tiny).need
    cpu = next(offer for offer in local.offers(need) if not offer.gpu_count)
    run = TinyRun(home, local, clock, spec, files, variant, tiny, tiny.timeout, tiny.memory, watch)
    return Smoked(variant, run.on(cpu, "smoke"))
