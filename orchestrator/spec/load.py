"""A spec file to a JobSpec, or to everything that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from orchestrator.spec import explain
from orchestrator.spec.checks import check, credentials, workdir_of
from orchestrator.spec.document import parse
from orchestrator.spec.model import JobSpec
from orchestrator.spec.overrides import override
from orchestrator.spec.problems import Finding, Problem, SpecError

__all__ = ["MAX_BYTES", "Problem", "SpecError", "load_spec", "parse_spec"]

MAX_BYTES = 1_000_000

_NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})


def load_spec(path: Path, overrides: Mapping[str, str] = _NO_OVERRIDES) -> JobSpec:
    """The spec in the file ``path``, with the defaults of its params replaced by ``overrides``.

    Raises SpecError with every problem found.
    """
    return parse_spec(_read(path), path, overrides)


def parse_spec(text: str, path: Path, overrides: Mapping[str, str] = _NO_OVERRIDES) -> JobSpec:
    """The spec that a file ``path`` with this text would be. Raises SpecError with every problem found."""
    document = parse(text, str(path))
    data, findings = override(document.data, overrides)
    spec, more = _validated(data, path)
    exposed = list(credentials(data))
    hidden = {finding.place for finding in exposed}
    findings = [each for each in (*document.findings, *findings, *more) if each.place not in hidden]
    if spec is None or findings or exposed:
        raise document.error(*exposed, *findings)
    return spec


def _validated(data: dict[str, Any], path: Path) -> tuple[JobSpec | None, list[Finding]]:
    findings = list(check(data, path.parent))
    if "spec_path" in data:
        findings.append(explain.unknown_key(("spec_path",)))
    root = workdir_of(data, path.parent)
    placed = {**data, "spec_path": path.absolute(), **({"workdir": root} if root else {})}
    try:
        return JobSpec.model_validate(placed), findings
    except ValidationError as error:
        return None, findings + explain.findings(error)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(path, "there is no such file") from None
    except IsADirectoryError:
        raise _unreadable(path, "this is a folder", "name the spec file in it") from None
    except OSError as error:
        raise _unreadable(path, f"it cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise _unreadable(path, "it is larger than 1 MB, which no spec is", "did you mean another file?")
    return _decoded(content, path)


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = Problem("this is not UTF-8 text", str(path), line, "save the file as UTF-8")
        raise SpecError([problem]) from None


def _unreadable(path: Path, message: str, hint: str = "") -> SpecError:
    return SpecError([Problem(message, str(path), None, hint)])
