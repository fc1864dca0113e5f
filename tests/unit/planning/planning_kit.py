"""Small worlds to plan in: specs, offers, and what was seen. Sizes are GB, prices dollars."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from backends.base import Offer
from orchestrator.planning.knowledge import Knowledge, Seen
from orchestrator.planning.ladder import make_plan
from orchestrator.planning.plan import Code, Plan, Priority, Rejection
from orchestrator.spec.model import JobSpec

GB = 10**9
USD = 1_000_000


def job(*variants: dict[str, Any] | str, **fields: Any) -> JobSpec:
    """A spec with these variants, each a name or a mapping."""
    listed = [{"name": each} if isinstance(each, str) else each for each in variants]
    return JobSpec.from_json({"name": "job", "run": "true", "variants": listed, **fields})


def machine(
    name: str, backend: str = "cloud", *, usd: str = "0", ram: float = 16, disk: float = 100, shared: bool = False
) -> Offer:
    """A machine without a GPU."""
    return Offer(backend, name, int(ram * GB), int(disk * GB), 4, int(Decimal(usd) * USD), shared=shared, source="test")


def gpu_machine(
    name: str,
    gpu: str = "Tesla T4",
    backend: str = "cloud",
    *,
    usd: str = "0",
    ram: float = 16,
    vram: float = 16,
    count: int = 1,
    capability: float | None = 7.5,
) -> Offer:
    """A machine with GPUs."""
    plain = machine(name, backend, usd=usd, ram=ram)
    return Offer(
        plain.backend, name, plain.ram_bytes, plain.disk_bytes, plain.cpus, plain.micros_per_hour,
        gpu=gpu, gpu_count=count, vram_bytes=int(vram * GB), compute_capability=capability,
    )  # fmt: skip


def seen(
    variant: str, outcome: str, offer: str = "cpu", backend: str = "cloud", *,
    ram: float | None = None, vram: float | None = None, this_job: bool = True, **fields: Any,
) -> Seen:  # fmt: skip
    """An attempt that ended, with the memory that it had."""
    where = " in attempt 1" if this_job else " in an earlier job on 2026-01-01"
    return Seen(
        variant, backend, offer, outcome,
        ram_capacity_bytes=None if ram is None else int(ram * GB),
        vram_capacity_bytes=None if vram is None else int(vram * GB),
        this_job=this_job, where=where, **fields,
    )  # fmt: skip


def plan(
    spec: JobSpec,
    *offers: Offer,
    known: tuple[Seen, ...] = (),
    budget: str = "100",
    priority: Priority = Priority.BALANCED,
    **options: Any,
) -> Plan:
    """The plan within ``budget`` dollars."""
    return make_plan(spec, offers, Knowledge(known), int(Decimal(budget) * USD), priority, **options)


def rungs(made: Plan) -> list[tuple[str, str]]:
    """Variant and offer of each rung."""
    return [(rung.variant, rung.offer) for rung in made.ladder]


def only_rejection(made: Plan, code: Code) -> Rejection:
    """The one rejection with that code."""
    (found,) = (each for each in made.rejected if each.code is code)
    return found
