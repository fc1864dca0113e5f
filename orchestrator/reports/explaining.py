"""After the fact: what the plan expected of each attempt, beside what happened."""

from __future__ import annotations

from typing import Any

from backends.units import decimal_usd
from orchestrator.records.reading import Reader

Json = dict[str, Any]

_PREDICTED = (
    "p_success",
    "p_oom",
    "expected_minutes",
    "expected_usd",
    "worst_case_usd",
    "ram_capacity_bytes",
    "vram_capacity_bytes",
)


def explanation(reader: Reader, job_id: str) -> list[Json]:
    """Per attempt: why it was made, and ``predicted`` and ``actual`` figures. Predicted is None if none was kept."""
    plans = {event["data"]["attempt"]: event["data"] for event in reader.events(job_id) if event["kind"] == "attempt"}
    return [_compared(reader, attempt, plans.get(attempt["number"], {})) for attempt in reader.attempts(job_id)]


def _compared(reader: Reader, attempt: Json, plan: Json) -> Json:
    seconds = sum(charge["seconds"] for charge in reader.charges(attempt["id"]))
    predicted = plan.get("predicted")
    return {
        "attempt": attempt["number"],
        "variant": attempt["variant"],
        "backend": attempt["backend"],
        "offer": attempt["offer"],
        "why": plan.get("why", ""),
        "predicted": {key: predicted[key] for key in _PREDICTED} if predicted else None,
        "actual": {
            "outcome": attempt["outcome"],
            "minutes": round(seconds / 60, 2),
            "usd": decimal_usd(attempt["cost_micros"]),
            "peak_ram_bytes": attempt["peak_ram_bytes"],
            "peak_vram_bytes": attempt["peak_vram_bytes"],
        },
    }
