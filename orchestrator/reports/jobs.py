"""One job, and the list of jobs, in the stable form of ``--json`` (docs/json.md)."""

from __future__ import annotations

from typing import Any

from backends.units import decimal_usd
from orchestrator.records.reading import Reader, Row

Json = dict[str, Any]

_NOTES = frozenset(
    {"smoke", "waiting", "preflight", "fetch", "cancel", "resumed", "price", "unreachable", "reached", "silent"}
)
"""Kinds of events that attempts and steps do not tell by themselves."""


def job_list(reader: Reader, limit: int) -> list[Json]:
    """The newest jobs, newest first."""
    return [
        {
            "id": row["id"],
            "name": row["name"],
            "state": row["state"],
            "outcome": row["outcome"],
            "summary": row["summary"],
            "waiting": row["waiting"],
            "budget_usd": decimal_usd(row["budget_micros"]),
            "spent_usd": decimal_usd(row["spent_micros"]),
            "attempts": row["attempts"],
            "place": row["place"],
            "variant": row["variant"],
            "created_at": row["created_at"],
            "started_at": row["started_at"],
            "ended_at": row["ended_at"],
        }
        for row in reader.jobs(limit)
    ]


def job_detail(reader: Reader, job_id: str) -> Json:
    """Everything recorded of one job: its plan, attempts, steps with every try, outcome, evidence and money."""
    row = reader.job(job_id)
    attempts = reader.attempts(job_id)
    return {
        "id": row["id"],
        "name": row["name"],
        "state": row["state"],
        "outcome": row["outcome"],
        "summary": row["summary"],
        "priority": row["priority"],
        "budget_usd": decimal_usd(row["budget_micros"]),
        "spent_usd": decimal_usd(sum(attempt["cost_micros"] for attempt in attempts)),
        "reserved_usd": decimal_usd(sum(a["reserved_micros"] for a in attempts if a["state"] == "open")),
        "cancel_requested": bool(row["cancel_requested"]),
        "created_at": row["created_at"],
        "started_at": row["started_at"],
        "ended_at": row["ended_at"],
        "plan": row["plan"],
        "notes": _notes(reader.events(job_id)),
        "attempts": [_attempt(reader, attempt) for attempt in attempts],
    }


def _notes(events: list[Row]) -> list[Json]:
    """What was told beside the course of things, each with the attempt that was under way, if one was."""
    notes: list[Json] = []
    attempt = None
    for event in events:
        if event["kind"] == "attempt":
            attempt = event["data"]["attempt"]
        elif event["kind"] == "outcome":
            attempt = None
        elif event["kind"] in _NOTES:
            notes.append({"at": event["at"], "kind": event["kind"], "text": event["text"], "attempt": attempt})
    return notes


def _attempt(reader: Reader, row: Row) -> Json:
    return {
        "number": row["number"],
        "rank": row["rank"],
        "key": row["key"],
        "backend": row["backend"],
        "offer": row["offer"],
        "gpu": row["gpu"],
        "variant": row["variant"],
        "state": row["state"],
        "outcome": row["outcome"],
        "summary": row["summary"],
        "evidence": row["evidence"],
        "exit_code": row["exit_code"],
        "signal": row["signal"],
        "peak_ram_bytes": row["peak_ram_bytes"],
        "peak_vram_bytes": row["peak_vram_bytes"],
        "ram_cap_bytes": row["ram_cap_bytes"],
        "usd_per_hour": decimal_usd(row["micros_per_hour"]),
        "allowed_seconds": row["allowed_seconds"],
        "reserved_usd": decimal_usd(row["reserved_micros"]),
        "cost_usd": decimal_usd(row["cost_micros"]),
        **_bill(reader, row),
        "charges": [
            {"kind": c["kind"], "usd": decimal_usd(c["micros"]), "seconds": round(c["seconds"], 3)}
            for c in reader.charges(row["id"])
        ],
        "started_at": row["started_at"],
        "ended_at": row["ended_at"],
        "steps": [_step(reader, step) for step in reader.steps(row["id"])],
    }


def _bill(reader: Reader, row: Row) -> Json:
    """What the provider says that the attempt cost, and whether it will be asked again."""
    bill = reader.bill(row["id"])
    if bill is None:
        return {"provider_usd": None, "difference_usd": None, "bill_expected": False}
    micros = bill["provider_micros"]
    return {
        "provider_usd": None if micros is None else decimal_usd(micros),
        "difference_usd": None if micros is None else decimal_usd(micros - row["cost_micros"]),
        "bill_expected": not bill["final"],
    }


def _step(reader: Reader, row: Row) -> Json:
    return {
        "name": row["name"],
        "state": row["state"],
        "bytes": (row["result"] or {}).get("bytes"),
        "tries": [
            {
                "number": t["number"],
                "state": t["state"],
                "started_at": t["started_at"],
                "seconds": t["seconds"],
                "error": t["error"],
                "action": t["action"],
            }
            for t in reader.tries(row["id"])
        ],
    }
