"""The kinds of value a spec is made of: how each is checked, stored and described to an editor.

Each is stored in the form a user would write ("400000000 B"), so a stored spec is read by the same rules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from orchestrator.spec import values

_SIZE_PATTERN = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]\s*$"
_DURATION_PATTERN = r"^\s*([0-9]+(\.[0-9]+)?\s*(ms|min|d|h|m|s)\s*)+$"


def _written_size(count: int | None) -> str:
    return "auto" if count is None else f"{count} B"


def _string(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


_NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"
_VARIANT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_GPU_NAME = r"^(?!(?:auto|any|yes|no|none|[0-9]+)$)[A-Za-z0-9][A-Za-z0-9 ._/-]{0,59}$"
_SIZE_SCHEMA = {"type": "string", "pattern": _SIZE_PATTERN, "examples": ["400 MB", "1.5 GiB"]}
_AUTO_SCHEMA = {"anyOf": [{"const": "auto"}, _SIZE_SCHEMA]}
_PATH_SCHEMA = _string(r"^(?![/~])(?!.*(^|/)\.\.(/|$))[^\\]*[^\\./][^\\]*$")

Text = Annotated[str, BeforeValidator(values.as_text), WithJsonSchema({"type": "string", "minLength": 1})]
JobName = Annotated[
    str,
    BeforeValidator(
        values.matching(_NAME, "is not a job name; write 1 to 40 of a-z, 0-9 and -, beginning with a letter or digit")
    ),
    _string(_NAME),
]
VariantName = Annotated[
    str,
    BeforeValidator(
        values.matching(_VARIANT_NAME, "is not a variant name; write 1 to 40 letters, digits, '.', '_' and '-'")
    ),
    _string(_VARIANT_NAME),
]
VariableName = Annotated[
    str,
    BeforeValidator(
        values.matching(_VARIABLE, "is not a name here; write letters, digits and _, beginning with no digit")
    ),
    _string(_VARIABLE),
]
GpuName = Annotated[
    str,
    BeforeValidator(values.matching(_GPU_NAME, "is not a GPU name; write one such as T4, a count such as 1, or none")),
    _string(_GPU_NAME),
]
Image = Annotated[
    str,
    BeforeValidator(values.matching(r"[\w.:/@-]+", "is not an image; write one such as pytorch/pytorch:2.8.0")),
    _string(r"^[A-Za-z0-9_.:/@-]+$"),
]
Sha256 = Annotated[
    str,
    BeforeValidator(
        values.matching(r"[0-9a-f]{64}", "is not a SHA-256; write its 64 digits 0-9 and a-f, in lower case")
    ),
    _string(r"^[0-9a-f]{64}$"),
]
Size = Annotated[
    int,
    BeforeValidator(values.as_size),
    PlainSerializer(_written_size, return_type=str, when_used="json"),
    WithJsonSchema(_SIZE_SCHEMA),
]
SizeOrAuto = Annotated[
    int | None,
    BeforeValidator(values.as_size_or_auto),
    PlainSerializer(_written_size, return_type=str, when_used="json"),
    WithJsonSchema(_AUTO_SCHEMA),
]
Seconds = Annotated[
    float,
    BeforeValidator(values.as_seconds),
    PlainSerializer(lambda seconds: f"{seconds!r}s", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN, "examples": ["90s", "10m", "1h30m"]}),
]
SizeBound = Annotated[
    values.Comparison,
    PlainValidator(values.as_bound),
    PlainSerializer(lambda bound: f"{bound.operator}{bound.size} B", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\s*(>=|<=|>|<)" + _SIZE_PATTERN[1:], "examples": [">=35 GB"]}),
]
Folder = Annotated[Path, BeforeValidator(values.as_folder), WithJsonSchema({"type": "string", "minLength": 1})]
OutputPath = Annotated[str, BeforeValidator(values.as_output_path), _PATH_SCHEMA]
InputPath = Annotated[str, BeforeValidator(values.as_input_path), _PATH_SCHEMA]
Source = Annotated[str, BeforeValidator(values.as_source), WithJsonSchema({"type": "string", "minLength": 1})]
EnvValue = Annotated[str, BeforeValidator(values.as_env_value), WithJsonSchema({"type": ["string", "integer"]})]
Param = Annotated[
    str | int | float | bool,
    BeforeValidator(values.as_param),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Count = Annotated[int, values.whole(1, 64), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 64})]
Attempts = Annotated[int, values.whole(1, 100), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 100})]
Minutes = Annotated[
    float,
    values.number(0, 527_040),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 527_040}),
]
Quality = Annotated[float, values.number(0, 1), WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1})]
ComputeCapability = Annotated[
    float, values.number(0, 99), WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 99})
]
Fallback = Annotated[
    Literal["smaller_variant", "bigger_machine"],
    BeforeValidator(values.choice("smaller_variant", "bigger_machine")),
    WithJsonSchema({"enum": ["smaller_variant", "bigger_machine"]}),
]
SigkillPolicy = Annotated[
    Literal["treat_as_oom", "fail"],
    BeforeValidator(values.choice("treat_as_oom", "fail")),
    WithJsonSchema({"enum": ["treat_as_oom", "fail"]}),
]
Params = Annotated[dict[VariableName, Param], BeforeValidator(values.as_mapping)]
Env = Annotated[dict[VariableName, EnvValue], BeforeValidator(values.as_mapping)]
OutputPaths = Annotated[tuple[OutputPath, ...], BeforeValidator(values.as_list)]
