"""``--param key=value``: a new default for a parameter, in the type of the default that the spec gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.spec.problems import Finding, did_you_mean
from orchestrator.spec.template import Value, rendered
from orchestrator.spec.values import shown


def override(data: dict[str, Any], overrides: Mapping[str, str]) -> tuple[dict[str, Any], list[Finding]]:
    """``data`` with its params overridden, and what is wrong with the overrides."""
    params = data.get("params") or {}
    if not overrides or not isinstance(params, dict):
        return data, []
    changed: dict[str, Any] = {}
    findings: list[Finding] = []
    for name, text in overrides.items():
        if name not in params:
            findings.append(_unknown(name, params))
            continue
        try:
            changed[name] = _converted(text, params[name])
        except ValueError as error:
            findings.append(Finding(("params", name), f"--param {name}: {error}"))
    return {**data, "params": {**params, **changed}}, findings


def _unknown(name: str, params: Mapping[str, Any]) -> Finding:
    known = f"params of this spec: {', '.join(params)}" if params else "this spec has no params"
    guess = did_you_mean(name, params)
    return Finding(("params",), f"--param {name}: unknown", f"{guess} {known}".strip())


def _converted(text: str, default: Any) -> Value:
    kind = type(default)
    wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind)
    if wanted is None:
        return text
    value = _parsed(text.strip(), kind)
    if value is None:
        raise ValueError(f"{shown(text)} is not {wanted}, as the spec's default {rendered(default)} is")
    return value


def _parsed(text: str, kind: type) -> Value | None:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        number = int(text) if kind is int else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
