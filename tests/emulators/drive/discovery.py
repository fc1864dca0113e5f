"""The contract: the discovery document that Google's client ships. What it does not know is refused."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.emulators.drive.errors import ApiError, invalid


@cache
def shipped() -> dict[str, Any]:
    """drive.v3.json as the installed package has it."""
    spec = find_spec("googleapiclient")
    assert spec, "the emulator needs google-api-python-client"
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "discovery_cache" / "documents" / "drive.v3.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def redirected(url: str) -> dict[str, Any]:
    """The document with every address moved to ``url``, for ``build_from_document``."""
    document = copy.deepcopy(shipped())
    document.pop("mtlsRootUrl", None)
    return document | {"rootUrl": f"{url}/", "baseUrl": f"{url}/{document['servicePath']}"}


@dataclass(frozen=True)
class Method:
    """One method of the API."""

    id: str
    verb: str
    pattern: re.Pattern[str]
    parameters: dict[str, Any]
    request: str | None
    response: str | None
    uploads: bool


@cache
def methods() -> list[Method]:
    """Every method of the document."""
    return [
        Method(
            id=method["id"].removeprefix("drive."),
            verb=method["httpMethod"],
            pattern=re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(method["path"]))),
            parameters=dict(method.get("parameters", {}).items()),
            request=method.get("request", {}).get("$ref"),
            response=method.get("response", {}).get("$ref"),
            uploads="mediaUpload" in method,
        )
        for resource in shipped()["resources"].values()
        for method in resource.get("methods", {}).values()
    ]


def find(verb: str, path: str) -> tuple[Method, dict[str, str], bool]:
    """The method, the parameters in its path, and whether it came by the upload road. Raises ApiError 404."""
    upload = path.startswith("/upload/")
    rest = path.removeprefix("/upload").removeprefix(f"/{shipped()['servicePath']}")
    found = [
        (len(match.groups()), method, match.groupdict())
        for method in methods()
        if method.verb == verb and (match := method.pattern.fullmatch(rest)) and (method.uploads or not upload)
    ]
    if not found:
        raise ApiError(404, "notFound", f"The requested URL {path} was not found on this server.")
    _, method, names = min(found, key=lambda each: each[0])  # files/generateIds before files/{fileId}
    return method, names, upload


def check_query(method: Method, query: dict[str, str]) -> None:
    """Raise ApiError 400 for a parameter that is unknown, of the wrong type or out of bounds."""
    known = shipped()["parameters"] | method.parameters | {"upload_id": {"type": "string"}}
    for name, value in query.items():
        about = known.get(name)
        if about is None or about.get("location") == "path":
            raise invalid(name, f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.')
        if about["type"] == "integer" and not _in_bounds(value, about):
            raise invalid(name, f"Invalid value '{value}'. Values must be within the range of the parameter.")
        if about["type"] == "boolean" and value not in ("true", "false"):
            raise invalid(name, f"Invalid boolean value: '{value}'.")
        if "enum" in about and value not in about["enum"]:
            raise invalid(name, f"Invalid value '{value}' for {name}.")
    for name, about in method.parameters.items():
        if about.get("required") and about["location"] == "query" and name not in query:
            raise ApiError(400, "required", f"Required parameter: {name}", location=name)


def _in_bounds(value: str, about: dict[str, Any]) -> bool:
    return re.fullmatch(r"-?\d+", value) is not None and int(about.get("minimum", value)) <= int(value) <= int(
        about.get("maximum", value)
    )


def check_body(schema: str, body: Any) -> None:
    """Raise ApiError for a field that is unknown (400), of the wrong type (400) or only for reading (403)."""
    properties = shipped()["schemas"][schema]["properties"]
    if not isinstance(body, dict):
        raise ApiError(400, "parseError", "Parse Error")
    for name, value in body.items():
        about = properties.get(name)
        if about is None:
            raise ApiError(400, "invalid", f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
        if "Output only." in about.get("description", ""):
            raise ApiError(
                403, "fieldNotWritable", "The resource body includes fields which are not directly writable."
            )
        if value is not None and not _typed(value, about):
            raise ApiError(400, "invalid", f"Invalid value for {name}: {value!r}")


def _typed(value: Any, about: dict[str, Any]) -> bool:
    kinds = {"string": str, "boolean": bool, "array": list, "object": dict, "integer": int}
    if not isinstance(value, kinds.get(about.get("type", "object"), object)):
        return False
    if isinstance(value, list):
        return all(_typed(each, about["items"]) for each in value)
    extra = about.get("additionalProperties")
    return not (isinstance(value, dict) and extra) or all(
        each is None or _typed(each, extra) for each in value.values()
    )
