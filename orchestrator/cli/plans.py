"""How a plan looks on the screen."""

from __future__ import annotations

from typing import Any

from backends.units import format_about, format_chance, format_usd, parse_usd
from orchestrator.cli.screen import bold, dim, table, warned, wrapped


def plan_text(plan: dict[str, Any]) -> str:
    """The ladder, its sums, and what was rejected with the number that decides."""
    parts = []
    if plan["ladder"]:
        parts.append("\n".join([bold("Plan") + f"  within {usd(plan['budget_usd'])}", _ladder(plan), _sums(plan)]))
    if notes := plan.get("notes"):
        parts.append("\n".join(f"{warned('!')} {wrapped(each, 2).lstrip()}" for each in notes))
    if plan["rejected"]:
        parts.append(f"{bold('Not on the ladder')}\n{_rejected(plan)}")
    if what_if := plan.get("what_if"):
        parts.append("\n".join([bold("What would change it"), *(wrapped(each, 2, 3) for each in what_if)]))
    return "\n\n".join(parts)


def usd(decimal: str) -> str:
    """The exact decimal string of ``--json`` as people read it."""
    return format_usd(parse_usd(decimal))


_MOST_REJECTED = 25


def _ladder(plan: dict[str, Any]) -> str:
    rows = [
        (
            str(rung["rank"]),
            rung["variant"],
            f"{rung['backend']} {rung['offer']}" + (f" ({rung['gpu']})" if rung["gpu"] else ""),
            format_chance(rung["p_success"]),
            format_about(rung["expected_minutes"] * 60),
            usd(rung["expected_usd"]),
            usd(rung["worst_case_usd"]),
        )
        for rung in plan["ladder"]
    ]
    headers = ("#", "variant", "where", "chance", "time", "cost", "at worst")
    head, *lines = table(headers, rows, right={"#", *headers[3:]}, indent=2).splitlines()
    reasons = [dim(wrapped("; ".join(rung["reasons"]), 5)) for rung in plan["ladder"]]
    return "\n".join([head, *(f"{line}\n{why}" for line, why in zip(lines, reasons, strict=True))])


def _sums(plan: dict[str, Any]) -> str:
    return dim(
        f"  together: {format_chance(plan['p_success'], 1)} chance, {usd(plan['expected_usd'])} expected, "
        f"{usd(plan['worst_case_usd'])} at worst"
    )


def _rejected(plan: dict[str, Any]) -> str:
    """One line for each backend and reason, with the variants that it holds for, and the nearest of the offers: the
    first that is listed.
    """
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for each in plan["rejected"]:
        groups.setdefault((each["variant"], each["backend"], each["code"]), []).append(each)
    told: dict[str, list[str]] = {}
    for (variant, _, _), group in groups.items():
        told.setdefault(_group(group), []).append(variant)
    lines = [wrapped(f"{', '.join(variants)} on {why}", 2, 3) for why, variants in list(told.items())[:_MOST_REJECTED]]
    more = len(told) - len(lines)
    return "\n".join([*lines, *([dim(f"  and {more:,} more: --json has them all")] if more else [])])


def _group(group: list[dict[str, Any]]) -> str:
    first, count = group[0], sum(each["count"] for each in group)
    if count == 1:
        return f"{first['backend']} {first['offer']}: {first['reason']}"
    return f"{first['backend']}, {count:,} offers such as {first['offer']}: {first['reason']}"
