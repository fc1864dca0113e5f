"""Where every cent went: by job, backend, variant or day, split into success, failed attempts, idle time and waste;
and beside our own account what providers say of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from backends.units import decimal_usd
from orchestrator.records.reading import Reader, Row


class By(StrEnum):
    """What the lines of a cost report stand for."""

    JOB = "job"
    BACKEND = "backend"
    VARIANT = "variant"
    DAY = "day"


_GROUPS = {
    By.JOB: "attempt.job_id",
    By.BACKEND: "attempt.backend",
    By.VARIANT: "job.name || ' ' || attempt.variant",
    By.DAY: "substr(attempt.started_at, 1, 10)",
}
_JOB = "JOIN job ON job.id = attempt.job_id"

_SUMS = (
    "attempts", "succeeded", "success_micros", "failed_micros", "idle_micros", "wasted_micros", "micros", "seconds",
    "provider_micros", "compared_micros", "unbilled",
)  # fmt: skip

# Every ended attempt has one charge of the kind `run`, and at most one bill. CROSS JOIN holds SQLite to this order: all
# charges as they lie in the file, each finding its attempt by number; twice as quick as what it would choose.
_QUERY = """
WITH line AS (
    SELECT {group} AS name,
           sum(charge.kind = 'run') AS attempts,
           sum(charge.kind = 'run' AND attempt.outcome = 'succeeded') AS succeeded,
           sum(charge.micros * (charge.kind = 'run' AND attempt.outcome = 'succeeded')) AS success_micros,
           sum(charge.micros * (charge.kind = 'run' AND attempt.outcome <> 'succeeded')) AS failed_micros,
           sum(charge.micros * (charge.kind = 'idle')) AS idle_micros,
           sum(charge.micros * (charge.kind = 'waste')) AS wasted_micros,
           sum(charge.micros) AS micros,
           sum(charge.seconds) AS seconds,
           coalesce(sum(bill.provider_micros * (charge.kind = 'run')), 0) AS provider_micros,
           sum(charge.micros * (bill.provider_micros IS NOT NULL)) AS compared_micros,
           sum(charge.kind = 'run' AND bill.key IS NOT NULL AND bill.provider_micros IS NULL) AS unbilled
      FROM charge CROSS JOIN attempt ON attempt.id = charge.attempt_id {job}
      LEFT JOIN bill ON bill.attempt_id = attempt.id
     WHERE attempt.started_at >= ?
     GROUP BY 1
)
SELECT *, {totals}, count(*) OVER () AS lines FROM line ORDER BY micros DESC, name DESC LIMIT ?
"""
_TOTALS = ", ".join(f"sum({name}) OVER () AS total_{name}" for name in _SUMS)


def cost_report(reader: Reader, by: By, since: str = "", limit: int = 50) -> dict[str, Any]:
    """Lines, largest first, and totals over all of them. ``since`` is a UTC date; only ended attempts have costs."""
    query = _QUERY.format(group=_GROUPS[by], job=_JOB if by is By.VARIANT else "", totals=_TOTALS)
    rows = reader.rows(query, (since, limit))
    return {
        "by": by.value,
        "since": since or None,
        "lines": [_line(row) for row in rows],
        "lines_left_out": rows[0]["lines"] - len(rows) if rows else 0,
        "total": _line({"name": "total", **{name: rows[0][f"total_{name}"] if rows else 0 for name in _SUMS}}),
    }


def _line(row: Row) -> dict[str, Any]:
    return {
        "name": row["name"],
        "attempts": row["attempts"],
        "succeeded": row["succeeded"],
        "usd": decimal_usd(row["micros"]),
        "success_usd": decimal_usd(row["success_micros"]),
        "failed_usd": decimal_usd(row["failed_micros"]),
        "idle_usd": decimal_usd(row["idle_micros"]),
        "wasted_usd": decimal_usd(row["wasted_micros"]),
        "provider_usd": decimal_usd(row["provider_micros"]),
        "difference_usd": decimal_usd(row["provider_micros"] - row["compared_micros"]),
        "unbilled": row["unbilled"],
        "seconds": round(row["seconds"], 3),
    }
