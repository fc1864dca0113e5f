"""Gathering what the pure planner needs: offers from the backends, knowledge from the journal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from backends.base import BackendError, Offer, Rejected
from orchestrator.config import Config
from orchestrator.lifecycle.registry import Backends, backend_names
from orchestrator.planning.duration import Workload
from orchestrator.planning.knowledge import Avoided, Knowledge, Seen
from orchestrator.planning.need import VariantNeed
from orchestrator.planning.outlook import Facts
from orchestrator.planning.plan import Priority
from orchestrator.planning.weights import WEIGHTS, Weights
from orchestrator.records.learned import Recorded, observations_of
from orchestrator.records.reading import Reader
from orchestrator.spec.model import JobSpec

if TYPE_CHECKING:
    from orchestrator.records.tables import Attempt, Job


@dataclass(frozen=True, slots=True)
class Listing:
    """What can be had now, and in words which backends could not say it."""

    offers: list[Offer]
    left_out: tuple[str, ...] = ()


def gather_offers(backends: Backends, names: Iterable[str], spec: JobSpec, upload_bytes: int = 0) -> Listing:
    """What the named backends (all, if none is named) offer now, for a job with so many bytes of files.

    Raises the first BackendError if none can say it, and Rejected for a name that no backend has.
    """
    need = replace(spec.resolved(spec.variants[0].name).need, upload_bytes=upload_bytes)
    offers: list[Offer] = []
    failed: dict[str, BackendError] = {}
    named = list(names)
    chosen = named or backend_names()
    for name in chosen:
        try:
            offers += backends.get(name).offers(need)
        except BackendError as error:
            if named and isinstance(error, Rejected):
                raise
            failed[name] = error
    if failed and len(failed) == len(chosen):
        raise next(iter(failed.values()))
    notes = (f"{name} is left out: {error}. {error.advice}".strip() for name, error in failed.items())
    return Listing(offers, tuple(notes))


def knowledge_for(
    reader: Reader, spec: JobSpec, digest: str, attempts: Sequence[Attempt], avoided: tuple[Avoided, ...] = ()
) -> Knowledge:
    """What this job's attempts, and earlier jobs with the same spec and files, have shown; and what to avoid."""
    own = {attempt.id for attempt in attempts}
    observed = {o.attempt_id: o for o in observations_of(reader, spec.name, digest)}
    earlier = [_from_observation(o) for o in observed.values() if o.attempt_id not in own]
    return Knowledge(
        seen=(*earlier, *(_from_attempt(a, observed.get(a.id or 0)) for a in attempts)),
        killed_counts=spec.on_oom.unexplained_sigkill == "treat_as_oom",
        avoided=avoided,
    )


def recordable(facts: Facts) -> dict[str, Any]:
    """What is predicted of each variant as plain JSON, to be kept with the job."""
    return {
        "needs": {name: need.to_json() for name, need in facts.needs.items()},
        "workloads": {name: asdict(workload) for name, workload in facts.workloads.items()},
    }


def recorded_facts(job: Job) -> Facts:
    """What the formulas said of each variant when the job was submitted."""
    kept = json.loads(job.options).get("predicted") or {"needs": {}, "workloads": {}}
    return Facts(
        {name: VariantNeed.from_json(need) for name, need in kept["needs"].items()},
        {name: Workload(**workload) for name, workload in kept["workloads"].items()},
    )


def weights_for(config: Config, priority: Priority) -> Weights:
    """The weights of a priority, with those that the user has set by themselves."""
    names = ("hour", "failure", "quality", "target")
    own = {name: value for name in names if (value := config.get(f"plan.{name}")) is not None}
    return WEIGHTS[priority].changed(own)


def _from_observation(seen: Recorded) -> Seen:
    return Seen(
        variant=seen.variant,
        backend=seen.backend,
        offer=seen.offer,
        outcome=seen.outcome,
        ram_capacity_bytes=seen.ram_capacity_bytes,
        vram_capacity_bytes=seen.vram_capacity_bytes,
        peak_ram_bytes=seen.peak_ram_bytes,
        peak_vram_bytes=seen.peak_vram_bytes,
        run_seconds=seen.run_seconds,
        setup_seconds=seen.setup_seconds,
        gpu=seen.gpu,
        where=f" in an earlier job on {seen.at[:10]}",
    )


def _from_attempt(attempt: Attempt, observed: Recorded | None) -> Seen:
    return Seen(
        variant=attempt.variant,
        backend=attempt.backend,
        offer=attempt.offer,
        outcome=attempt.outcome or "",
        ram_capacity_bytes=observed.ram_capacity_bytes if observed else attempt.ram_cap_bytes,
        vram_capacity_bytes=observed.vram_capacity_bytes if observed else None,
        peak_ram_bytes=attempt.peak_ram_bytes,
        peak_vram_bytes=attempt.peak_vram_bytes,
        run_seconds=observed.run_seconds if observed else None,
        setup_seconds=observed.setup_seconds if observed else None,
        gpu=attempt.gpu,
        this_job=True,
        where=f" in attempt {attempt.number}",
    )
