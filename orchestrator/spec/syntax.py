"""What a YAML parser complains about, in words that say what to mend."""

from __future__ import annotations

import yaml
from yaml.reader import ReaderError

from orchestrator.spec.problems import Problem


class RefusedError(yaml.MarkedYAMLError):
    """YAML, but not what a spec may hold; the problem is in plain words already."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(None, None, problem, mark)


_QUOTE_IT = "put the whole value in quotes"
_AT_OPENING = {
    "found unexpected end of stream": ("a quote is opened here and never closed", "add the closing quote"),
    "expected ',' or ']'": ("a list opened with [ is not closed, or lacks a comma", "check the ] and commas"),
    "expected ',' or '}'": ("a mapping opened with { is not closed, or lacks a comma", "check the } and commas"),
    "could not find expected ':'": ("a key without ':'", "write `key: value`"),
}
_AT_PROBLEM = {
    "mapping values are not allowed": (
        "a ':' stands where no key can be",
        "check the indentation, and put text that contains ': ' in quotes",
    ),
    "expected <block end>": (
        "this line does not fit the lines above it",
        "start all keys of one section in the same column, and quote a value as a whole",
    ),
    "cannot start any token": ("a value begins with a character that means something else in YAML", _QUOTE_IT),
    "expected chomping or indentation": ("a value begins with > or | and goes on in the same line", _QUOTE_IT),
    "found undefined alias": ("a value begins with *, but no anchor has that name", _QUOTE_IT),
    "expected alphabetic or numeric": ("a value begins with * or &, which means something else in YAML", _QUOTE_IT),
    "but found another document": ("a spec is one document", "remove the `---` line and what follows it"),
}


def explain(error: yaml.YAMLError, text: str, file: str) -> Problem:
    """``error``, raised while reading ``text``, as a problem with a line."""
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem("a control character, which YAML does not allow", file, line, "remove it")
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Problem("this is not YAML", file)
    line = error.problem_mark.line + 1
    if isinstance(error, RefusedError):
        return Problem(error.problem or "", file, line)
    if "\t" in _indentation(text, line):
        return Problem("a tab in the indentation; YAML wants spaces", file, line, "replace the tab by spaces")
    return _in_words(error, file, line)


def _indentation(text: str, line: int) -> str:
    lines = text.splitlines()
    found = lines[line - 1] if line <= len(lines) else ""
    return found[: len(found) - len(found.lstrip())]


def _in_words(error: yaml.MarkedYAMLError, file: str, line: int) -> Problem:
    said = error.problem or ""
    for known, (message, hint) in _AT_OPENING.items():
        if known in said and error.context_mark is not None:
            return Problem(message, file, error.context_mark.line + 1, hint)
    for known, (message, hint) in _AT_PROBLEM.items():
        if known in said:
            return Problem(message, file, line, hint)
    return Problem(f"this is not valid YAML: {said}", file, line)
