"""Partial responses: the ``fields`` parameter, checked against the schema of the answer."""

from __future__ import annotations

import re
from typing import Any

from tests.emulators.drive.discovery import shipped
from tests.emulators.drive.errors import ApiError

Tree = dict[str, "Tree"]
"""Wanted fields; an empty subtree means all of it."""

_TOKEN = re.compile(r"\s*([A-Za-z0-9_*]+|[(),/])")
FILE: Tree = {name: {} for name in ("kind", "id", "name", "mimeType")}
DEFAULTS: dict[str, Tree] = {
    "File": FILE,
    "FileList": {"kind": {}, "nextPageToken": {}, "incompleteSearch": {}, "files": FILE},
    "ChangeList": {"kind": {}, "nextPageToken": {}, "newStartPageToken": {}}
    | {"changes": {name: {} for name in ("kind", "type", "changeType", "time", "removed", "fileId")} | {"file": FILE}},
}
"""What is answered where ``fields`` is not given; all of it for other answers."""


def mask(document: dict[str, Any], schema: str, fields: str | None) -> dict[str, Any]:
    """What ``fields`` leaves of ``document``. Raises ApiError 400 for a selection that the schema does not have."""
    tree = parse(fields, schema) if fields is not None else DEFAULTS.get(schema, {})
    kept: dict[str, Any] = _keep(document, tree)
    return kept


def parse(fields: str, schema: str) -> Tree:
    """``a,b(c,d/e)`` as a tree. Raises ApiError 400."""
    tokens, at = [], 0
    while at < len(fields):
        match = _TOKEN.match(fields, at)
        if not match:
            raise _bad(fields)
        tokens.append(match[1])
        at = match.end()
    tree = _Parser(tokens, fields).several()
    _check(tree, {"$ref": schema}, fields)
    return tree


class _Parser:
    def __init__(self, tokens: list[str], text: str) -> None:
        self._tokens, self._text = [*tokens, ""], text
        self._at = 0

    def several(self, closing: str = "") -> Tree:
        tree: Tree = {}
        while True:
            name = self._next()
            if not name or name in "(),/":
                raise _bad(self._text)
            tree[name] = self._below()
            after = self._next()
            if after == closing:
                return tree
            if after != ",":
                raise _bad(self._text)

    def _below(self) -> Tree:
        if self._tokens[self._at] == "(":
            self._at += 1
            return self.several(")")
        if self._tokens[self._at] == "/":
            self._at += 1
            return {self._next(): self._below()}
        return {}

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]


def _check(tree: Tree, schema: dict[str, Any], text: str) -> None:
    about = shipped()["schemas"][schema["$ref"]] if "$ref" in schema else schema
    if "items" in about:
        return _check(tree, about["items"], text)
    for name, below in tree.items():
        if name == "*":
            continue
        inner = about.get("properties", {}).get(name, about.get("additionalProperties"))
        if inner is None:
            raise _bad(name)
        _check(below, inner, text)
    return None


def _keep(value: Any, tree: Tree) -> Any:
    if not tree or "*" in tree:
        return value
    if isinstance(value, list):
        return [_keep(each, tree) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _keep(value[name], below) for name, below in tree.items() if name in value}


def _bad(what: str) -> ApiError:
    return ApiError(400, "invalidParameter", f"Invalid field selection {what}", location="fields")
