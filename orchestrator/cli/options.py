"""Arguments that several commands share, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backends.units import parse_duration, parse_size, parse_usd
from orchestrator.planning.plan import Priority

if TYPE_CHECKING:
    from orchestrator.cli.submitting import Wish
    from orchestrator.spec.model import JobSpec


def _budget(text: str) -> str:
    return _checked(text, parse_usd)


def _duration(text: str | None) -> str | None:
    if text is not None and parse_duration(_checked(text, parse_duration)) < 1:
        raise typer.BadParameter(f"{text!r} is too short; write at least 1s")
    return text


def _checked(text: str, parse: Callable[[str], object]) -> str:
    try:
        parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def _size(text: str | None) -> str | None:
    return None if text is None else _checked(text, parse_size)


def _money(text: str | None) -> str | None:
    return None if text is None else _checked(text, parse_usd)


def _params(texts: list[str] | None) -> list[str] | None:
    for text in texts or ():
        if "=" not in text:
            raise typer.BadParameter(f"{text!r} has no value; write --param name=value")
    return texts


SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="The job spec, a YAML file.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Job id or unique prefix.")]
BudgetOption = Annotated[
    str, typer.Option("--budget", metavar="USD", callback=_budget, help="What the whole job may cost, in dollars.")
]
PriorityOption = Annotated[Priority, typer.Option(help="What you would rather have.")]
BackendOption = Annotated[
    list[str] | None, typer.Option("--backend", metavar="NAME", help="Only this backend; may be repeated.")
]
MaxRuntimeOption = Annotated[
    str | None, typer.Option(metavar="TIME", callback=_duration, help="End a run after this long, such as 2h.")
]
SizeOption = Annotated[
    str | None, typer.Option("--min-vram", metavar="SIZE", callback=_size, help="VRAM per GPU, such as 24GB.")
]
PriceOption = Annotated[
    str | None, typer.Option("--max-price", metavar="USD", callback=_money, help="Dollars per hour, at most.")
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="K=V", callback=_params, help="Set a parameter of the spec; may be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs (docs/json.md).")]


def wish_from(
    spec: Path,
    budget: str,
    priority: Priority,
    backend: list[str] | None,
    max_runtime: str | None,
    param: list[str] | None,
) -> Wish:
    """What was typed, parsed."""
    from orchestrator.cli.submitting import Wish

    return Wish(
        spec,
        parse_usd(budget),
        priority,
        tuple(backend or ()),
        parse_duration(max_runtime) if max_runtime else None,
        tuple(param or ()),
    )


def variant_named(spec: JobSpec, name: str | None) -> str:
    """The variant that was typed, the first if none was. Raises BadParameter."""
    try:
        return spec.variant(name).name if name else spec.variants[0].name
    except KeyError as error:
        raise typer.BadParameter(str(error.args[0])) from None


def checked_date(text: str) -> str:
    """A date as 2026-11-01, however it was written in ISO 8601; nothing stays nothing. Raises BadParameter."""
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date; write it as 2026-11-01") from None


def overrides_from(params: Sequence[str]) -> dict[str, str]:
    """``--param k=v`` as a mapping; one without ``=`` is given to the spec's check as it is."""
    pairs = (text.partition("=") for text in params)
    return {name: value for name, _, value in pairs}
