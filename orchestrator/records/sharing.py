"""Observations as a team shares them: JSON lines without secrets, paths or names of machines, known by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.records.learned import Recorded
from orchestrator.records.tables import Observation

SCHEMA: Literal[1] = 1
"""The version of a line. A newer one is refused: its measures may mean something else."""

_LONGEST_LINE = 20_000


class HistoryError(Exception):
    """The file cannot be imported. The message names the line and what is wrong; nothing was imported."""


Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Size = Annotated[int, Field(ge=0, lt=1 << 53)]
Seconds = Annotated[float, Field(ge=0, lt=1e10, allow_inf_nan=False)]


class SharedObservation(BaseModel):
    """One line. Backend and offer are not part of it: they name places, and another's are not ours."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    name: Text
    variant: Text
    spec_digest: Text
    family: Text = ""
    gpu: Text | None = None
    outcome: Text
    peak_ram_bytes: Size | None = None
    load_ram_bytes: Size | None = None
    peak_vram_bytes: Size | None = None
    device_vram_bytes: Size | None = None
    ram_above_bytes: Size | None = None
    vram_above_bytes: Size | None = None
    ram_capacity_bytes: Size | None = None
    vram_capacity_bytes: Size | None = None
    vram_usable_bytes: Size | None = None
    predicted_ram_bytes: Size | None = None
    predicted_vram_bytes: Size | None = None
    setup_seconds: Seconds | None = None
    run_seconds: Seconds | None = None
    step_seconds: Seconds | None = None
    versions: dict[Text, Text] = Field(default_factory=dict, max_length=20)
    at: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$")]


_CONTENT = tuple(name for name in SharedObservation.model_fields if name not in ("schema_version", "id", "versions"))


def identified(observation: Observation) -> Observation:
    """The observation with its id: the digest of what is shared of it, the same wherever it goes."""
    content = json.dumps([SCHEMA, *(getattr(observation, name) for name in _CONTENT), observation.versions])
    observation.content_id = hashlib.sha256(content.encode("ascii")).hexdigest()
    return observation


def to_line(observation: Observation | Recorded) -> str:
    """The line of the file that stands for ``observation``."""
    values = {name: getattr(observation, name) for name in _CONTENT}
    known = {name: value for name, value in values.items() if value is not None}
    versions = json.loads(observation.versions)
    return json.dumps({"schema": SCHEMA, "id": observation.content_id, **known, "versions": versions})


def from_lines(lines: Iterable[str]) -> Iterator[Observation]:
    """The observations in a file. Raises HistoryError at the first line that is not one."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _from_line(number, line)


def _from_line(number: int, line: str) -> Observation:
    if len(line) > _LONGEST_LINE:
        raise HistoryError(f"Line {number} is too long for an observation. Was the file written by `history export`?")
    try:
        value = json.loads(line)
        _check_schema(number, value)
        shared = SharedObservation.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise HistoryError(f"Line {number}: {where}: {first['msg']}. Nothing was imported.") from None
    except ValueError as error:
        raise HistoryError(f"Line {number} is not JSON ({error}). Nothing was imported.") from None
    values = shared.model_dump(exclude={"schema_version", "id", "versions"})
    versions = json.dumps(shared.versions, sort_keys=True)
    return Observation(content_id=shared.id, backend="", offer="", versions=versions, **values)


def _check_schema(number: int, value: Any) -> None:
    found = value.get("schema") if isinstance(value, dict) else None
    if isinstance(found, int) and found > SCHEMA:
        raise HistoryError(
            f"Line {number} has schema {found}; this gpujob knows up to {SCHEMA}. Upgrade gpujob. Nothing was imported."
        )
