"""The spec's JSON Schema (draft 2020-12), with which editors complete and check a spec while it is written."""

from __future__ import annotations

from typing import Any

from orchestrator.spec.model import JobSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema, as plain JSON values."""
    schema = JobSpec.model_json_schema(mode="validation")
    sections: Schema = {name: _section(each) for name, each in schema["$defs"].items()}
    top = _section(schema)
    for name, described in top["properties"].items():
        described["description"] = JobSpec.model_fields[name].description
    top["properties"].pop("spec_path")
    _write_gpu_forms(sections)
    return {"$schema": DIALECT, "title": "gpujob job spec", **top, "$defs": sections}


def _section(schema: Schema) -> Schema:
    """A mapping with known keys, free of what pydantic adds for programmers."""
    properties = {name: _property(each) for name, each in schema["properties"].items()}
    section = {"type": "object", "description": schema["description"], "properties": properties}
    if "required" in schema:
        section["required"] = schema["required"]
    return {**section, "additionalProperties": False}


def _property(schema: Schema) -> Schema:
    """A value as a user may write it; a list, mapping or section may be left empty."""
    described = {key: value for key, value in schema.items() if key not in ("title", "default")}
    if isinstance(schema.get("default"), str | int | float) and not _is_in_units(schema):
        described["default"] = schema["default"]
    if "patternProperties" in described:
        described["additionalProperties"] = False
    if described.get("type") in ("array", "object"):
        described["type"] = [described["type"], "null"]
    if "$ref" in described:
        described["anyOf"] = [{"$ref": described.pop("$ref")}, {"type": "null"}]
    return described


def _is_in_units(schema: Schema) -> bool:
    """A size or duration: pydantic tells its default as a number, but it is written as text."""
    return schema.get("type") == "string" and not isinstance(schema["default"], str)


def _write_gpu_forms(sections: Schema) -> None:
    """``gpu`` has short forms, and ``vram`` may stand beside it."""
    long_form, needs = sections["GpuRequirement"]["properties"], sections["Needs"]["properties"]
    needs["vram"] = {**long_form["vram"], "description": "Short for gpu.vram."}
    short_forms = [{"const": "none"}, {"type": "null"}, long_form["count"], long_form["names"]["items"]]
    needs["gpu"]["anyOf"] = [*map(_bare, short_forms), {"$ref": "#/$defs/GpuRequirement"}]


def _bare(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in ("description", "default")}
