"""The closed schemas of what clients send, as the contract has them, and the check that names each violation."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from tests.emulators.runpod.problems import Problem

TEXT = {"type": "string"}
NAME = {"type": "string", "minLength": 1}
FLAG = {"type": "boolean"}
TEXTS = {"type": "array", "items": TEXT}
CUDA = {"type": "string", "pattern": r"^\d+\.\d+$"}
COUNT = {"type": "integer", "minimum": 1}


def closed(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    """An object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required or [],
        "additionalProperties": False,
    }


MOUNTS = closed(
    persistent=closed(["size", "path"], size={"type": "integer", "minimum": 10}, path=TEXT),
    network={"type": "array", "maxItems": 1, "items": closed(["volumeId", "path"], volumeId=TEXT, path=TEXT)},
)
CONTAINER: dict[str, Any] = {
    "args": TEXT, "disk": COUNT, "env": {"type": "object", "additionalProperties": TEXT}, "image": TEXT,
    "ports": TEXTS, "cmd": TEXTS, "entrypoint": TEXTS, "registry": {"type": ["string", "null"]},
}  # fmt: skip
CREATE_POD = closed(
    ["name"],
    **CONTAINER,
    name=NAME,
    cloud={"enum": ["SECURE", "COMMUNITY"]},
    cpu=closed(["id", "vcpuCount"], id=NAME, vcpuCount={"type": "integer", "minimum": 2}),
    dataCenterIds=TEXTS,
    globalNetworking=FLAG,
    gpu=closed(
        ["id"], id=TEXT, count=COUNT, allowedCudaVersions={"type": "array", "items": CUDA}, minCudaVersion=CUDA,
        minRamPerGpu=COUNT, minVcpuCountPerGpu=COUNT,
    ),
    mounts=MOUNTS,
    startJupyter=FLAG,
    startSsh=FLAG,
    templateId=NAME,
) | {"if": {"not": {"required": ["templateId"]}}, "then": {"required": ["image"]}}  # fmt: skip
UPDATE_POD = closed(
    **CONTAINER, globalNetworking=FLAG, locked=FLAG, mounts=MOUNTS, name=NAME, templateId=TEXT
)  # fmt: skip
ACTION = closed(["action"], action={"enum": ["start", "stop", "restart", "terminate"]})
KEY = {"type": "string", "pattern": r"^(ssh|ecdsa|sk)-[^\s]+ [^\s]+([ \t][^\n\r]*)?$"}
SSH_KEYS = closed(["keys"], keys={"type": "array", "items": KEY})


def check(body: Any, schema: dict[str, Any]) -> None:
    """Raise Problem 422, naming each violation, unless ``body`` follows the schema."""
    errors = [line for error in Draft202012Validator(schema).iter_errors(body) for line in _lines(error)]
    if errors:
        raise Problem(422, "Request validation failed.", errors=sorted(errors))


def _lines(error: ValidationError) -> list[str]:
    if (
        error.validator == "additionalProperties"
        and isinstance(error.instance, dict)
        and error.validator_value is False
    ):
        assert isinstance(error.schema, dict)
        unknown = sorted(set(error.instance) - set(error.schema["properties"]))
        return [f"{error.json_path}: additional properties '{name}' not allowed" for name in unknown]
    return [f"{error.json_path}: {error.message}"]
