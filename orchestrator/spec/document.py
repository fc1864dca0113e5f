"""YAML text to plain data, with the line of every key and value.

Values are read by the rules of YAML 1.2, and only where nothing is lost: ``true`` and ``false`` are the only
booleans, and numbers are decimal. ``on``, ``yes``, ``no``, ``1:30``, ``007``, ``0x1F`` and dates stay text.
Tags, merge keys and alias bombs are refused, so reading a spec can run nothing and fill no memory.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.spec.problems import Finding, Place, Problem, SpecError
from orchestrator.spec.syntax import RefusedError, explain

MAX_VALUES = 10_000
MAX_DEPTH = 30

_TOO_LARGE = f"the spec is too large: more than {MAX_VALUES} values or {MAX_DEPTH} levels"

_TAG = "tag:yaml.org,2002:"
_DIGITS = r"(?:0|[1-9][0-9]*)"
_RESOLVERS = (
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", rf"-?{_DIGITS}", list("-0123456789")),
    ("float", rf"-?(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", list("-.0123456789")),
)


class _Loader(yaml.SafeLoader):
    """Builds nodes by YAML 1.2 rules; deep nesting and tags are refused."""

    yaml_implicit_resolvers = {}
    depth = 0
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # untyped in the stubs
        self.values += 1
        if self.values > MAX_VALUES or self.depth > MAX_DEPTH:
            raise RefusedError(_TOO_LARGE, event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise RefusedError("a tag, which begins with !, is not allowed in a spec", event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


for _kind, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"^{_pattern}\Z"), _first)


@dataclass(frozen=True, slots=True)
class _Span:
    """Lines, from 1: of the key, and the first and last of the value."""

    key: int
    first: int
    last: int


@dataclass(slots=True)
class Document:
    """A spec as plain data, and where each part of it is written."""

    file: str
    data: Any
    source: list[str]
    findings: list[Finding] = field(default_factory=list)
    spans: dict[Place, _Span] = field(default_factory=dict)

    def problem(self, finding: Finding) -> Problem:
        """``finding`` with its file and line."""
        return Problem(finding.message, self.file, self._line(finding), finding.hint)

    def error(self, *findings: Finding) -> SpecError:
        """All of ``findings`` as the error to raise."""
        return SpecError(dict.fromkeys(self.problem(finding) for finding in findings))

    def _line(self, finding: Finding) -> int:
        place = self._written(finding.place)
        span = self.spans.get(place)
        if span is None:
            return self._line(Finding(finding.place[:-1], "")) if finding.place else 1
        if finding.quote:
            return self._line_of_quote(finding, span)
        return span.key if finding.on_key else span.first

    def _line_of_quote(self, finding: Finding, span: _Span) -> int:
        found = -1
        for line in range(span.first, span.last + 1):
            found += self.source[line - 1].count(finding.quote)
            if found >= finding.nth:
                return line
        return span.first

    def _written(self, place: Place) -> Place:
        """``needs.gpu.vram`` may be written ``needs.vram``."""
        short = (*place[:-2], "vram")
        return short if place[-2:] == ("gpu", "vram") and place not in self.spans else place


class _Reader:
    """Walks the nodes once, collecting values, lines and findings."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.values = 0

    def read(self, node: yaml.Node, place: Place, key_line: int) -> Any:
        self._count(node, place)
        empty = isinstance(node, yaml.ScalarNode) and not node.value and not node.style
        first = key_line if empty else node.start_mark.line + 1
        last = min(max(first, node.end_mark.line + 1), len(self.document.source))
        self.document.spans[place] = _Span(key_line, first, last)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*place, index), item.start_mark.line + 1) for index, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _count(self, node: yaml.Node, place: Place) -> None:
        """An alias costs as much as what it stands for, which also ends one that contains itself."""
        self.values += 1
        if self.values > MAX_VALUES or len(place) > MAX_DEPTH:
            hint = "aliases (*name) count as often as they are used"
            raise SpecError([Problem(_TOO_LARGE, self.document.file, node.start_mark.line + 1, hint)])

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise SpecError([Problem("a key must be a plain word", self.document.file, line)])
            if key_node.value in result:
                self._duplicate((*place, key_node.value), line)
            else:
                result[key_node.value] = self.read(value_node, (*place, key_node.value), line)
        return result

    def _duplicate(self, place: Place, line: int) -> None:
        first = self.document.spans[place].key
        where = (*place, "(again)")
        self.document.spans[where] = _Span(line, line, line)
        message = f"'{place[-1]}' is written twice; the first is on line {first}"
        self.document.findings.append(Finding(where, message, "keep one of the two"))

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float" as kind:
                return self._number(text, kind, place)
        return text

    def _number(self, text: str, kind: str, place: Place) -> int | float | str:
        if math.isfinite(float(text)):
            return int(text) if kind == "int" else float(text)
        message = f"{text[:20]}... is too large for a number"
        self.document.findings.append(Finding(place, message, "put it in quotes if it is text"))
        return text


def parse(text: str, file: str) -> Document:
    """Read the YAML ``text`` of ``file``. Raises SpecError where it is no YAML, or too large."""
    document = Document(file, {}, text.splitlines() or [""])
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SpecError([explain(error, text, file)]) from None
    if node is None:
        raise SpecError([Problem("the spec is empty", file, 1, "`gpujob init` writes one to start from")])
    if not isinstance(node, yaml.MappingNode):
        message = "a spec is a mapping of keys to values, such as name: my-job"
        raise SpecError([Problem(message, file, node.start_mark.line + 1)])
    document.data = _Reader(document).read(node, (), 1)
    return document
