"""From an attempt's outcome and time to what is recorded of it: charges, evidence, observation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from sqlmodel import select

from backends.billing import Price
from backends.units import cost_micros
from orchestrator.lifecycle.learning import family_of
from orchestrator.lifecycle.outcome import Verdict
from orchestrator.planning.need import VariantNeed
from orchestrator.records.attempts import Ending
from orchestrator.records.sharing import identified
from orchestrator.records.states import StepState
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Job, Observation, Step
from orchestrator.spec.model import JobSpec


def settlement(
    store: Store,
    job: Job,
    spec: JobSpec,
    attempt: Attempt,
    verdict: Verdict,
    held_seconds: float,
    at: str,
    predicted: VariantNeed | None,
    price: Price | None,
    *,
    wasted: bool = False,
) -> Ending:
    """What to record. The lease's cost is split exactly: what the user's command used, and the rest.

    ``predicted`` is what the formulas say the variant needs, before calibration; None where they say nothing. ``price``
    is None where nothing was ever rented; ``wasted`` says that the machine never became usable.
    """
    record = _runner_record(store, attempt)
    run_seconds = min(held_seconds, _number(record, "setup_seconds") + _number(record, "run_seconds"))
    total = price.micros(held_seconds) if price else 0
    run_micros = min(total, cost_micros(price.hourly_micros if price else 0, run_seconds))
    return Ending(
        outcome=verdict.outcome.value,
        summary=verdict.summary,
        evidence=verdict.evidence,
        exit_code=verdict.exit_code,
        signal=verdict.signal,
        peak_ram_bytes=record.get("peak_ram_bytes"),
        peak_vram_bytes=record.get("peak_vram_bytes"),
        held_seconds=held_seconds,
        run_seconds=run_seconds,
        run_micros=run_micros,
        idle_micros=total - run_micros,
        observation=_observation(job, spec, attempt, verdict, record, predicted, at) if record else None,
        wasted=wasted,
    )


def _runner_record(store: Store, attempt: Attempt) -> Mapping[str, Any]:
    """The runner's exit record as the execute step stored it; empty if the run never got there."""
    with store.read() as session:
        step = session.exec(select(Step).where(Step.attempt_id == attempt.id, Step.name == "execute")).one_or_none()
    if step is None or step.state != StepState.DONE or step.result is None:
        return {}
    return cast("Mapping[str, Any]", json.loads(step.result)["record"])


def _observation(
    job: Job,
    spec: JobSpec,
    attempt: Attempt,
    verdict: Verdict,
    record: Mapping[str, Any],
    predicted: VariantNeed | None,
    at: str,
) -> Observation:
    total, before = record.get("vram_total_bytes"), record.get("vram_used_before_bytes")
    return identified(
        Observation(
            attempt_id=cast("int", attempt.id),
            name=spec.name,
            variant=attempt.variant,
            spec_digest=str(json.loads(job.options)["digest"]),
            family=family_of(predicted) if predicted else "",
            backend=attempt.backend,
            offer=attempt.offer,
            gpu=attempt.gpu,
            outcome=verdict.outcome.value,
            peak_ram_bytes=record.get("peak_ram_bytes"),
            load_ram_bytes=record.get("load_ram_bytes"),
            peak_vram_bytes=record.get("peak_vram_bytes"),
            device_vram_bytes=record.get("peak_device_vram_bytes"),
            ram_above_bytes=verdict.ram_above_bytes,
            vram_above_bytes=verdict.vram_above_bytes,
            ram_capacity_bytes=attempt.ram_cap_bytes or record.get("ram_total_bytes"),
            vram_capacity_bytes=total,
            vram_usable_bytes=None if total is None or before is None else total - before,
            predicted_ram_bytes=predicted.ram.median_bytes if predicted and predicted.ram else None,
            predicted_vram_bytes=predicted.vram.median_bytes if predicted and predicted.vram else None,
            setup_seconds=record.get("setup_seconds"),
            run_seconds=record.get("run_seconds"),
            step_seconds=record.get("step_seconds"),
            versions=json.dumps(record.get("versions") or {}, sort_keys=True),
            at=at,
        )
    )


def _number(record: Mapping[str, Any], name: str) -> float:
    return float(record.get(name) or 0.0)
