"""What pydantic found wrong with a spec, as findings in plain words."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError

from orchestrator.spec.model import JobSpec
from orchestrator.spec.parts import Part
from orchestrator.spec.problems import Finding, Place, did_you_mean, dotted


def findings(error: ValidationError) -> list[Finding]:
    """One finding for each thing wrong."""
    return [_finding(detail["type"], detail["loc"], detail) for detail in error.errors(include_url=False)]


def unknown_key(place: Place) -> Finding:
    """A key that its section does not know."""
    section, key = _part_at(place[:-1]), str(place[-1])
    known = [name for name in section.model_fields if name != "spec_path"] if section else []
    home = _home_of(key, section)
    hint = (f"did you mean '{home}'?" if home else did_you_mean(key, known)) or f"known: {', '.join(known)}"
    return Finding(place, f"{dotted(place)}: unknown key", hint, on_key=True)


def _finding(kind: str, place: Place, detail: Any) -> Finding:
    if kind == "extra_forbidden":
        return unknown_key(place)
    if kind == "missing":
        return Finding(place, f"{dotted(place)}: missing", f"{place[-1]}: {_description(place)}", on_key=True)
    on_key = place[-1:] == ("[key]",)
    place = place[:-1] if on_key else place
    reason = detail["ctx"]["error"] if kind == "value_error" else detail["msg"]
    return Finding(place, f"{dotted(place)}: {reason}", on_key=on_key)


def _part_at(place: Place) -> type[Part] | None:
    """The section that ``place`` names; None inside a mapping of free keys."""
    part: type[Part] | None = JobSpec
    for step in place:
        if part is not None and isinstance(step, str):
            found = part.model_fields.get(step)
            part = _part_in(found.annotation) if found else None
    return part


def _part_in(annotation: Any) -> type[Part] | None:
    """The section inside ``tuple[Input, ...]``, ``Smoke | None`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    return next((part for each in get_args(annotation) if (part := _part_in(each))), None)


def _home_of(key: str, section: type[Part] | None) -> str:
    """Where a key that stands in the wrong section belongs: ``ram`` at the top is ``needs.ram``."""
    for name, field in JobSpec.model_fields.items():
        part = _part_in(field.annotation)
        if part and part is not section and name not in ("variants", "inputs", "smoke") and key in part.model_fields:
            return f"{name}.{key}"
    return ""


def _description(place: Place) -> str:
    section = _part_at(place[:-1])
    return (section.model_fields[str(place[-1])].description or "") if section else ""
