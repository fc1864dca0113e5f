"""How jobs, one job, and costs look on the screen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from backends.units import format_about, format_chance, format_duration, format_size
from orchestrator.cli.plans import plan_text, usd
from orchestrator.cli.screen import bad, bold, dim, good, table, warned, wrapped
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
            _how(job),
        )
        for job in jobs
    ]
    headers = ("job", "state", "submitted", "took", "spent", "last attempt", "how it ended")
    return table(headers, rows, spare=("last attempt", "spent", "took"))


def detail_text(job: dict[str, Any]) -> str:
    """``gpujob show``: the plan, then every attempt with its steps, outcome, evidence and money; nothing is cut."""
    lines = [
        f"{bold(job['id'])}  {_state(job['state'])}",
        *_paragraphs(2, short_end(job["summary"], job["attempts"])),
        f"  spent {usd(job['spent_usd'])} of {usd(job['budget_usd'])}"
        + (f", {usd(job['reserved_usd'])} reserved" if job["reserved_usd"] != "0.00" else "")
        + f"; priority {job['priority']}; submitted {job['created_at'][:19].replace('T', ' ')} UTC",
        *_notes(job, None),
    ]
    for attempt in job["attempts"]:
        lines += ["", *_attempt_lines(attempt, _notes(job, attempt["number"]))]
    if job["plan"]:
        title = "The newest plan" if job["attempts"] else "The plan"
        lines += ["", dim(f"{title}:"), plan_text(job["plan"])]
    return "\n".join(lines)


def explained_text(attempts: list[dict[str, Any]]) -> str:
    """``gpujob show --explain``: predicted against actual, attempt by attempt."""
    lines = []
    for each in attempts:
        lines += [
            f"{bold(str(each['attempt']))}  {each['variant']} on {each['backend']} {each['offer']}",
            dim(wrapped(each["why"], 3)),
        ]
        lines.append(table(("", "predicted", "actual"), _figures(each), right={"predicted", "actual"}, indent=3))
    return "\n".join(lines) or "No attempt was made."


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
        ("ending", f"{format_chance(predicted['p_success'])} success", ended),
        ("time", format_about(predicted["expected_minutes"] * 60), format_duration(actual["minutes"] * 60)),
        ("cost", f"{usd(predicted['expected_usd'])}, at worst {usd(predicted['worst_case_usd'])}", usd(actual["usd"])),
        *peaks,
    ]


def new_evidence(outcome: str, summary: str, evidence: list[str]) -> list[str]:
    """The evidence that the summary does not say already. A success needs none."""
    return [line for line in evidence if outcome != "succeeded" and line.lower() not in summary.lower()]


def short_end(summary: str, attempts: list[dict[str, Any]]) -> str:
    """How a job ended, where its last attempt's own words are shown too: they are not said twice."""
    last = attempts[-1] if attempts else None
    if last is None or not last["summary"] or summary != last["summary"]:
        return summary
    number, how = last["number"], _exit(last) or last["outcome"].replace("_", " ")
    return f"failed in attempt {number}: {how}"


def report_text(report: dict[str, Any]) -> str:
    """``gpujob report``: where every cent went."""
    lines = [*report["lines"], report["total"]]
    billed = report["total"]["provider_usd"] != "0.00" or report["total"]["unbilled"]
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
            usd(line["wasted_usd"]),
            *([usd(line["provider_usd"]), _difference(line["difference_usd"])] if billed else []),
        )
        for line in lines
    ]
    headers = (
        report["by"],
        "attempts",
        "succeeded",
        "machine time",
        "cost",
        "success",
        "failed",
        "idle",
        "wasted",
        *(("provider says", "difference") if billed else ()),
    )
    text = table(headers, rows, right=headers[1:], spare=("succeeded", "machine time"))
    if report["lines_left_out"]:
        text += (
            f"\n({report['lines_left_out']} smaller lines are left out; --limit shows more. The total has them all.)"
        )
    if waiting := report["total"]["unbilled"]:
        text += (
            f"\n({waiting} attempt{'s' * (waiting > 1)} whose provider does not show a bill yet: the worker asks again,"
            " and so does --refresh. The difference is that of the others.)"
        )
    return text


def _difference(usd_text: str) -> str:
    """With its sign: what the provider says above our own account, or below."""
    return f"-{usd(usd_text[1:])}" if usd_text.startswith("-") else f"+{usd(usd_text)}"


def _attempt_lines(attempt: dict[str, Any], notes: list[str]) -> list[str]:
    where = f"{attempt['backend']} {attempt['offer']}" + (f" ({attempt['gpu']})" if attempt["gpu"] else "")
    outcome, summary = attempt["outcome"], attempt["summary"]
    styled = (good if outcome == "succeeded" else bad)(outcome) if outcome else "under way"
    return [
        f"{bold('Attempt')} {attempt['number']}: {attempt['variant']} on {where}  {styled}",
        *_paragraphs(2, summary),
        *map(dim, _paragraphs(4, *new_evidence(outcome, summary, attempt["evidence"]))),
        *notes,
        "  " + _facts(attempt),
        *(line for step in attempt["steps"] for each in step["tries"] for line in _try_lines(step, each)),
    ]


def _notes(job: dict[str, Any], attempt: int | None) -> list[str]:
    """What was told while that attempt was under way, or while none was."""
    texts = (f"! {note['at'][11:19]} {note['text']}" for note in job["notes"] if note["attempt"] == attempt)
    return [warned(line) for line in _paragraphs(2, *texts)]


def _paragraphs(indent: int, *texts: str) -> list[str]:
    return [wrapped(text, indent, 2) for text in texts if text]


def _facts(attempt: dict[str, Any]) -> str:
    facts = [
        _exit(attempt),
        f"peak RAM {format_size(attempt['peak_ram_bytes'])}" if attempt["peak_ram_bytes"] else "",
        f"cap {format_size(attempt['ram_cap_bytes'])}" if attempt["ram_cap_bytes"] else "",
        f"peak VRAM {format_size(attempt['peak_vram_bytes'])}" if attempt["peak_vram_bytes"] else "",
        _cost(attempt),
        _bill(attempt),
    ]
    return ", ".join(fact for fact in facts if fact)


def _cost(attempt: dict[str, Any]) -> str:
    """Known once it is over; until then what it may cost at most."""
    if attempt["state"] == "open":
        return f"{usd(attempt['reserved_usd'])} reserved for it at {usd(attempt['usd_per_hour'])}/h"
    return f"cost {usd(attempt['cost_usd'])} of {usd(attempt['reserved_usd'])} reserved"


def _bill(attempt: dict[str, Any]) -> str:
    """The provider's own account, where there is one."""
    if attempt["provider_usd"] is None:
        return "its provider shows no bill yet" if attempt["bill_expected"] else ""
    return f"its provider says {usd(attempt['provider_usd'])} ({_difference(attempt['difference_usd'])})"


def _exit(attempt: dict[str, Any]) -> str:
    """How the command ended, by number."""
    named = {"exit code": attempt["exit_code"], "signal": attempt["signal"]}
    return ", ".join(f"{name} {number}" for name, number in named.items() if number is not None)


def _try_lines(step: dict[str, Any], row: dict[str, Any]) -> list[str]:
    took = format_duration(row["seconds"]) if row["seconds"] is not None else ""
    sent = f"  {format_size(step['bytes'])}" if step["bytes"] is not None and row["state"] == "done" else ""
    line = f"    {step['name']:<10}{row['state']:<12}{row['started_at'][11:19]}  {took:>10}{sent}".rstrip()
    return [line, *_paragraphs(6, f"{row['error']}: {row['action']}" if row["error"] else "")]


def _state(state: str) -> str:
    return {"succeeded": good, "failed": bad, "cancelled": warned}.get(state, str)(state)


def _how(job: dict[str, Any]) -> str:
    """What a job waits for, or how it ended, without the words that the other columns say."""
    return str(job["waiting"] or job["summary"].removeprefix("The command ").removeprefix("succeeded "))


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
