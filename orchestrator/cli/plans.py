"""How a plan looks on the screen."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from typing import Any

from backends.units import format_duration, format_usd, parse_usd
from orchestrator.cli.screen import bold, dim, table


def plan_text(plan: dict[str, Any]) -> str:
    """The ladder, its sums, and what was rejected with the number that decides."""
    parts = []
    if plan["ladder"]:
        parts += [bold("Plan") + f"  within {usd(plan['budget_usd'])}", _ladder(plan), _sums(plan)]
    if plan["rejected"]:
        parts += ["", bold("Not on the ladder"), _rejected(plan)]
    if plan.get("what_if"):
        parts += ["", bold("What would change it"), *(f"  {each}" for each in plan["what_if"])]
    return "\n".join(parts)


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
            f"{rung['p_success']:.0%}",
            format_duration(rung["expected_minutes"] * 60),
            usd(rung["expected_usd"]),
            usd(rung["worst_case_usd"]),
        )
        for rung in plan["ladder"]
    ]
    headers = ("#", "variant", "where", "chance", "time", "cost", "at worst")
    head, *lines = table(headers, rows, right={"#", *headers[3:]}, indent=2).splitlines()
    reasons = ["; ".join(rung["reasons"]) for rung in plan["ladder"]]
    return "\n".join([head, *(f"{line}\n{_under(why)}" for line, why in zip(lines, reasons, strict=True))])


def _under(text: str) -> str:
    """A reason below its row, as wide as the terminal allows."""
    width = max(60, min(110, shutil.get_terminal_size().columns)) - 5
    return "\n".join(dim(f"     {line}") for line in textwrap.wrap(text, width))


def _sums(plan: dict[str, Any]) -> str:
    return dim(
        f"  together: {plan['p_success']:.1%} chance, {usd(plan['expected_usd'])} expected, "
        f"{usd(plan['worst_case_usd'])} at worst"
    )


def _rejected(plan: dict[str, Any]) -> str:
    counted = Counter((r["variant"], f"{r['backend']} {r['offer']}", r["reason"]) for r in plan["rejected"])
    rows = [key for key, _ in counted.most_common(_MOST_REJECTED)]
    more = len(counted) - len(rows)
    rest = [dim(f"  and {more:,} more: --json has them all")] if more else []
    return "\n".join([table(("variant", "where", "why not"), rows, indent=2), *rest])
