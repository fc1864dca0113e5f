"""How jobs, one job, and costs look on the screen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from backends.units import format_duration, format_size
from orchestrator.cli.plans import plan_text, usd
from orchestrator.cli.screen import bad, bold, dim, good, plain, table, warned
from orchestrator.clock import moment


def list_text(jobs: list[dict[str, Any]]) -> str:
    """The table of ``gpujob ls``."""
    rows = [
        (
            job["id"],
            job["state"],
            _ago(job["created_at"]),
            _took(job),
            f"{usd(job['spent_usd'])} of {usd(job['budget_usd'])}",
            " ".join(filter(None, (job["variant"], f"on {job['place']}" if job["place"] else ""))),
            job["summary"],
        )
        for job in jobs
    ]
    return table(("job", "state", "submitted", "took", "spent", "last attempt", "how it ended"), rows)


def detail_text(job: dict[str, Any]) -> str:
    """``gpujob show``: the plan, then every attempt with its steps, outcome, evidence and money."""
    lines = [
        f"{bold(job['id'])}  {_state(job['state'])}  {plain(job['summary'])}",
        f"  spent {usd(job['spent_usd'])} of {usd(job['budget_usd'])}"
        + (f", {usd(job['reserved_usd'])} reserved" if job["reserved_usd"] != "0.00" else "")
        + f"; priority {job['priority']}; submitted {job['created_at'][:19].replace('T', ' ')} UTC",
    ]
    for attempt in job["attempts"]:
        lines += ["", *_attempt_lines(attempt)]
    if job["plan"]:
        title = "The newest plan" if job["attempts"] else "The plan"
        lines += ["", dim(f"{title}:"), plan_text(job["plan"])]
    return "\n".join(lines)


def explained_text(attempts: list[dict[str, Any]]) -> str:
    """``gpujob show --explain``: predicted against actual, attempt by attempt."""
    lines = []
    for each in attempts:
        lines += [f"{bold(str(each['attempt']))}  {each['variant']} on {each['backend']} {each['offer']}", _why(each)]
        lines.append(table(("", "predicted", "actual"), _figures(each), right={"predicted", "actual"}, indent=3))
    return "\n".join(lines) or "No attempt was made."


def _why(attempt: dict[str, Any]) -> str:
    return dim(f"   {attempt['why']}")


def _figures(attempt: dict[str, Any]) -> list[tuple[str, str, str]]:
    predicted, actual = attempt["predicted"], attempt["actual"]
    ended = actual["outcome"] or "still running"
    if predicted is None:
        return [("ending", "not kept", ended)]
    peaks = [
        (name, f"{format_size(predicted[f'{key}_capacity_bytes'])} there", format_size(actual[f"peak_{key}_bytes"]))
        for name, key in (("RAM", "ram"), ("VRAM", "vram"))
        if actual[f"peak_{key}_bytes"]
    ]
    return [
        ("ending", f"{predicted['p_success']:.0%} success", ended),
        ("time", format_duration(predicted["expected_minutes"] * 60), format_duration(actual["minutes"] * 60)),
        ("cost", f"{usd(predicted['expected_usd'])}, at worst {usd(predicted['worst_case_usd'])}", usd(actual["usd"])),
        *peaks,
    ]


def report_text(report: dict[str, Any]) -> str:
    """``gpujob report``: where every cent went."""
    lines = [*report["lines"], report["total"]]
    rows = [
        (
            line["name"],
            str(line["attempts"]),
            str(line["succeeded"]),
            format_duration(line["seconds"]),
            usd(line["usd"]),
            usd(line["success_usd"]),
            usd(line["failed_usd"]),
            usd(line["idle_usd"]),
        )
        for line in lines
    ]
    headers = (
        report["by"],
        "attempts",
        "succeeded",
        "machine time",
        "cost",
        "on success",
        "on failed attempts",
        "idle",
    )
    text = table(headers, rows, right=headers[1:])
    if report["lines_left_out"]:
        text += (
            f"\n({report['lines_left_out']} smaller lines are left out; --limit shows more. The total has them all.)"
        )
    return text


def _attempt_lines(attempt: dict[str, Any]) -> list[str]:
    where = f"{attempt['backend']} {attempt['offer']}" + (f" ({attempt['gpu']})" if attempt["gpu"] else "")
    outcome = attempt["outcome"] or "under way"
    styled = good(outcome) if outcome == "succeeded" else outcome if attempt["outcome"] is None else bad(outcome)
    lines = [
        f"{bold('Attempt')} {attempt['number']}: {attempt['variant']} on {where}  {styled}",
        f"  {plain(attempt['summary'])}" if attempt["summary"] else "",
        *(dim(f"    {plain(line)}") for line in attempt["evidence"]),
        "  " + _facts(attempt),
        *(f"    {line}" for step in attempt["steps"] for line in _step_lines(step)),
    ]
    return [line for line in lines if line]


def _facts(attempt: dict[str, Any]) -> str:
    facts = [
        f"exit code {attempt['exit_code']}" if attempt["exit_code"] is not None else "",
        f"signal {attempt['signal']}" if attempt["signal"] is not None else "",
        f"peak RAM {format_size(attempt['peak_ram_bytes'])}" if attempt["peak_ram_bytes"] else "",
        f"cap {format_size(attempt['ram_cap_bytes'])}" if attempt["ram_cap_bytes"] else "",
        f"peak VRAM {format_size(attempt['peak_vram_bytes'])}" if attempt["peak_vram_bytes"] else "",
        f"cost {usd(attempt['cost_usd'])} of {usd(attempt['reserved_usd'])} reserved",
    ]
    return ", ".join(fact for fact in facts if fact)


def _step_lines(step: dict[str, Any]) -> list[str]:
    return [
        f"{step['name']:<10}{t['state']:<12}{t['started_at'][11:19]}  "
        f"{format_duration(t['seconds']) if t['seconds'] is not None else '':>10}"
        + (f"  {plain(t['error'])}: {t['action']}" if t["error"] else "")
        for t in step["tries"]
    ]


def _state(state: str) -> str:
    return {"succeeded": good, "failed": bad, "cancelled": warned}.get(state, str)(state)


def _took(job: dict[str, Any]) -> str:
    if job["started_at"] is None:
        return ""
    end = moment(job["ended_at"]) if job["ended_at"] else datetime.now(UTC)
    return format_duration(max(0.0, (end - moment(job["started_at"])).total_seconds()))


def _ago(text: str) -> str:
    seconds = max(0.0, (datetime.now(UTC) - moment(text)).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"
