"""The ``q`` of files.list: a sentence, made into a predicate. ``and`` and ``or`` bind alike, from left to right."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from tests.emulators.clock import parse_rfc3339
from tests.emulators.drive.errors import ApiError, invalid

Facts = dict[str, Any]
"""A file's document as the asking client sees it."""
Predicate = Callable[[Facts], bool]

_TOKEN = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|(<=|>=|!=|[=<>(){}])|([A-Za-z]+))")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TIMES = ("modifiedTime", "createdTime")
_FLAGS = ("trashed", "starred")
_TEXTS = ("name", "mimeType")


def predicate(text: str) -> Predicate:
    """What ``text`` asks. Raises ApiError 400 ("Invalid Value", at q) for what it cannot mean."""
    return _Parser(_tokens(text)).whole()


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if not match:
            raise invalid("q")
        quoted, sign, word = match.groups()
        if quoted is not None:
            found.append(("text", re.sub(r"\\(.)", r"\1", quoted)))
        else:
            found.append(("sign", sign) if sign else ("word", word))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = [*tokens, ("end", "")]
        self._at = 0

    def whole(self) -> Predicate:
        found = self._expression()
        self._take("end")
        return found

    def _expression(self) -> Predicate:
        found = self._factor()
        while self._tokens[self._at] in (("word", "and"), ("word", "or")):
            joined = self._take("word")
            found = _join(joined, found, self._factor())
        return found

    def _factor(self) -> Predicate:
        if self._tokens[self._at] == ("word", "not"):
            self._at += 1
            inner = self._factor()
            return lambda facts: not inner(facts)
        if self._tokens[self._at] == ("sign", "("):
            self._at += 1
            found = self._expression()
            self._take("sign", ")")
            return found
        return self._term()

    def _term(self) -> Predicate:
        if self._tokens[self._at][0] == "text":
            value = self._take("text")
            self._take("word", "in")
            where = self._take("word", "parents", "owners")
            return _member(value, where)
        field = self._take("word")
        if field in ("appProperties", "properties"):
            return self._property(field)
        kind, sign = self._tokens[self._at]
        self._at += 1
        if field in _TEXTS and (kind, sign) == ("word", "contains"):
            return _contains(field, self._take("text"))
        if field in _TEXTS and sign in ("=", "!="):
            return _compare(field, sign, self._take("text"))
        if field in _TIMES and sign in _COMPARE:
            return _moment(field, sign, self._take("text"))
        if field in _FLAGS and sign in ("=", "!="):
            wanted = self._take("word", "true", "false") == "true"
            return lambda facts: _COMPARE[sign](facts.get(field, False), wanted)
        raise invalid("q")

    def _property(self, field: str) -> Predicate:
        self._take("word", "has")
        self._take("sign", "{")
        self._take("word", "key")
        self._take("sign", "=")
        key = self._take("text")
        self._take("word", "and")
        self._take("word", "value")
        self._take("sign", "=")
        value = self._take("text")
        self._take("sign", "}")
        return lambda facts: facts.get(field, {}).get(key) == value

    def _take(self, kind: str, *wanted: str) -> str:
        found, value = self._tokens[self._at]
        if found != kind or (wanted and value not in wanted):
            raise invalid("q")
        self._at += 1
        return value


def _join(how: str, left: Predicate, right: Predicate) -> Predicate:
    if how == "and":
        return lambda facts: left(facts) and right(facts)
    return lambda facts: left(facts) or right(facts)


def _member(value: str, where: str) -> Predicate:
    if where == "parents":
        return lambda facts: value in facts.get("parents", ()) or (value == "root" and facts["$in_root"])
    return lambda facts: any(owner["emailAddress"] == value for owner in facts["owners"])


def _compare(field: str, sign: str, value: str) -> Predicate:
    return lambda facts: _COMPARE[sign](facts[field], value)


def _contains(field: str, value: str) -> Predicate:
    """For names it is the beginning of a word, in any case; for types the beginning."""
    if field == "mimeType":
        return lambda facts: facts[field].startswith(value)
    pattern = re.compile(rf"(?:^|[\W_]){re.escape(value)}", re.IGNORECASE)
    return lambda facts: pattern.search(facts[field]) is not None


def _moment(field: str, sign: str, text: str) -> Predicate:
    try:
        moment = parse_rfc3339(text if re.search(r"(Z|[+-]\d\d:\d\d)$", text) else text + "Z")
    except ValueError as error:
        raise invalid("q") from error
    return lambda facts: _COMPARE[sign](parse_rfc3339(facts[field]), moment)


ORDERS = {
    "createdTime": "createdTime", "modifiedTime": "modifiedTime", "name": "name", "name_natural": "name",
    "recency": "modifiedTime", "modifiedByMeTime": "modifiedTime", "starred": "starred",
}  # fmt: skip


def ordered(documents: list[Facts], order: str) -> list[Facts]:
    """``documents`` by ``orderBy``: keys with or without `` desc``. Raises ApiError 400."""
    for key in reversed(order.split(",")):
        name, _, way = key.strip().partition(" ")
        if way not in ("", "desc") or (name not in ORDERS and name not in ("folder", "quotaBytesUsed")):
            raise ApiError(400, "invalid", "Invalid Value", location="orderBy")
        documents = sorted(documents, key=lambda facts: _rank(facts, name), reverse=way == "desc")
    return documents


def _rank(facts: Facts, name: str) -> Any:
    if name == "folder":
        return not facts["mimeType"].endswith(".folder")
    if name == "quotaBytesUsed":
        return int(facts.get("quotaBytesUsed", 0))
    if name == "name_natural":
        return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", facts["name"])]
    return facts.get(ORDERS[name], "")
