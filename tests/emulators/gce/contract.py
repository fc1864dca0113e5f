"""The contract: the discovery document of compute v1 that Google's client ships. What it does not know is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RESOURCES = (
    "instances", "disks", "zoneOperations", "globalOperations", "firewalls", "machineTypes", "projects", "regions",
    "images",
)  # fmt: skip
_TYPES = {"string": str, "boolean": bool, "array": list, "object": dict, "integer": int, "number": (int, float)}


class Refused(Exception):
    """A refusal by HTTP, as Google words it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    def body(self) -> dict[str, Any]:
        error = {"domain": "global", "reason": self.reason, "message": str(self)}
        return {"error": {"code": self.status, "message": str(self), "errors": [error]}}


@cache
def shipped() -> dict[str, Any]:
    """compute.v1.json as the installed package has it."""
    spec = find_spec("googleapiclient")
    assert spec, "the emulator needs google-api-python-client"
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "discovery_cache" / "documents" / "compute.v1.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@dataclass(frozen=True)
class Method:
    """One method of the API; ``id`` is such as ``instances.insert``."""

    id: str
    verb: str
    pattern: re.Pattern[str]
    parameters: dict[str, Any]
    request: str | None


@cache
def methods() -> list[Method]:
    """Every method of the resources that are here."""
    return [
        Method(
            id=method["id"].removeprefix("compute."),
            verb=method["httpMethod"],
            pattern=re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(method["path"]))),
            parameters=method.get("parameters", {}),
            request=method.get("request", {}).get("$ref"),
        )
        for resource in RESOURCES
        for method in shipped()["resources"][resource]["methods"].values()
    ]


def find(verb: str, path: str) -> tuple[Method, dict[str, str]]:
    """The method, and the parameters in its path, each of which must be spelt as the document says."""
    rest = path.removeprefix(f"/{shipped()['servicePath']}")
    for method in methods():
        if method.verb == verb and (match := method.pattern.fullmatch(rest)):
            for name, value in match.groupdict().items():
                pattern = method.parameters[name].get("pattern")
                if pattern and not re.fullmatch(pattern, value):
                    raise Refused(400, "invalidParameter", f"Invalid value '{value}' for {name}: must match {pattern}")
            return method, match.groupdict()
    raise Refused(404, "notFound", f"The requested URL {path} was not found on this server.")


def check_query(method: Method, query: dict[str, str]) -> None:
    """Refuse a parameter that is unknown or wrong, and a required one that is not there."""
    known = shipped()["parameters"] | method.parameters
    for name, value in query.items():
        about = known.get(name)
        if about is None or about.get("location") == "path":
            raise Refused(400, "invalidParameter", f'Unknown name "{name}": Cannot bind query parameter.')
        if about["type"] == "integer" and not value.isdecimal():
            raise Refused(400, "invalidParameter", f"Invalid value '{value}' for {name}.")
    for name, about in method.parameters.items():
        if about.get("required") and about["location"] == "query" and name not in query:
            raise Refused(400, "required", f"Required parameter: {name}")


def check_body(method: Method, body: Any) -> None:
    """Refuse a body with a field that is unknown, of the wrong kind, or only told by Google."""
    if method.request is None:
        if body is not None:
            raise Refused(400, "badRequest", f"{method.id} takes no body")
        return
    _check(body, {"$ref": method.request}, method.request)


def _check(value: Any, about: dict[str, Any], where: str) -> None:
    if "$ref" in about:
        _check_fields(value, shipped()["schemas"][about["$ref"]], where)
        return
    kind = about.get("type", "any")
    if about.get("readOnly") or "[Output Only]" in about.get("description", "")[:20]:
        raise Refused(400, "invalid", f"Invalid value for field '{where}': it is output only")
    if kind in _TYPES and (not isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, bool))):
        raise Refused(400, "invalid", f"Invalid value for field '{where}': {value!r} is no {kind}")
    if "enum" in about and value not in about["enum"]:
        raise Refused(400, "invalid", f"Invalid value for field '{where}': '{value}'.")
    if kind == "array":
        for number, each in enumerate(value):
            _check(each, about["items"], f"{where}[{number}]")
    if kind == "object":
        _check_fields(value, about, where)
    if kind == "string" and about.get("format") in ("int64", "uint64") and not str(value).isdecimal():
        raise Refused(400, "invalid", f"Invalid value for field '{where}': '{value}' is no number")


def _check_fields(value: Any, schema: dict[str, Any], where: str) -> None:
    if not isinstance(value, dict):
        raise Refused(400, "parseError", f"Invalid value for field '{where}': {value!r} is no object")
    properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
    for name, each in value.items():
        if name not in properties and extra is None:
            raise Refused(400, "invalid", f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}'")
        _check(each, properties.get(name, extra), f"{where}.{name}")
