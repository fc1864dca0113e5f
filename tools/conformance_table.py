"""The table of conformance, out of what tests/conformance recorded: a row for each check, a column for each backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from backends.testing import CHECKS

ORDER = ("local", "runpod", "colab", "aws", "gce", "lambda")
"""The columns; the tests' own provider is no backend that anybody rents from."""


def conformance_table(cases: Sequence[Mapping[str, str]]) -> str:
    """Markdown: "yes" where the check was run and holds, the number of a reason where it does not fit."""
    unfit = {(case["provider"], case["check"]): case["unfit"] for case in cases if "check" in case}
    columns = [name for name in ORDER if any(name == provider for provider, _ in unfit)]
    reasons: list[str] = []
    lines = [f"| what holds | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for check in CHECKS:
        cells = [_cell(unfit[name, check.name], reasons) for name in columns]
        lines.append(f"| {check.says} | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)), ""]
    return "\n".join([*lines, *_who_ends(cases, columns), ""])


def _cell(reason: str, reasons: list[str]) -> str:
    if not reason:
        return "yes"
    if reason not in reasons:
        reasons.append(reason)
    return f"({reasons.index(reason) + 1})"


def _who_ends(cases: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Iterable[str]:
    """Who ends a machine that nobody watches."""
    found = {case["provider"]: case for case in cases if case.get("check") == "ends_alone"}
    yield "| backend | what ends a machine that nobody watches |"
    yield "|---|---|"
    for name in columns:
        case = found[name]
        words = case["ends_alone"] or case["unfit"] or "nothing: none is rented before the user has accepted that"
        yield f"| {name} | {words} |"
