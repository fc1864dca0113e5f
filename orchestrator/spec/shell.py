"""How a POSIX shell reads each character of a command: enough of its grammar to quote a value safely.

Where this reading cannot be sure (here-documents, backquotes, arithmetic, ``$'...'``, nested ``${...}``,
``case`` inside a substitution) everything from there on is UNKNOWN, and nobody should put a value in.
"""

from __future__ import annotations

import re
from enum import Enum


class Quoting(Enum):
    """What surrounds a character."""

    PLAIN = "plain"
    SINGLE = "single"
    DOUBLE = "double"
    COMMENT = "comment"
    UNKNOWN = "unknown"


_SIMPLE_EXPANSION = r"\$\{[^{}'\"`\\$]*\}"
_UNSURE = r"`|\$\(\(|\(\(|\$\[|\$'|\$\{|<<(?!<)|\\\n#"
_TOKENS = {
    Quoting.PLAIN: re.compile(
        rf"(?P<skip>{_SIMPLE_EXPANSION}|<<<)|(?P<unsure>{_UNSURE})|(?P<escape>\\.)"
        r"|(?P<comment>(?:(?<=[\s;&|()])|^)#[^\n]*)|(?P<single>')|(?P<double>\")"
        r"|(?P<open>\()|(?P<close>\))|(?P<case>\bcase\b)",
        re.DOTALL,
    ),
    Quoting.DOUBLE: re.compile(
        rf"(?P<escape>\\.)|(?P<skip>{_SIMPLE_EXPANSION})|(?P<unsure>`|\$\(\(|\$\{{)"
        r"|(?P<substitution>\$\()|(?P<end>\")",
        re.DOTALL,
    ),
    Quoting.SINGLE: re.compile(r"(?P<end>')"),
}
_PUSHED = {"single": Quoting.SINGLE, "double": Quoting.DOUBLE, "substitution": Quoting.PLAIN}


def quoting(command: str) -> list[Quoting]:
    """The surroundings of every character of ``command``; UNKNOWN also for one after a backslash."""
    result: list[Quoting] = []
    stack = [Quoting.PLAIN]
    while len(result) < len(command):
        token = _TOKENS[stack[-1]].search(command, len(result))
        end = token.start() if token else len(command)
        result += [stack[-1]] * (end - len(result))
        if token and not _consume(token, stack, result):
            result += [Quoting.UNKNOWN] * (len(command) - len(result))
    return result


def _consume(token: re.Match[str], stack: list[Quoting], result: list[Quoting]) -> bool:
    """Take one token; False where nothing after it can be read with certainty."""
    kind, length = token.lastgroup, len(token[0])
    nested = len(stack) > 1
    if kind == "unsure" or (kind == "case" and nested):
        return False
    if kind == "comment" and result and result[-1] is Quoting.UNKNOWN:
        kind, length = "skip", 1  # an escaped space before the #: still the same word
    here = {"escape": Quoting.UNKNOWN, "comment": Quoting.COMMENT}.get(str(kind), stack[-1])
    result += [here] * length
    if kind in _PUSHED:
        stack.append(_PUSHED[kind])
    elif kind == "open" and nested:
        stack.append(Quoting.PLAIN)
    elif kind == "end" or (kind == "close" and nested):
        stack.pop()
    return True
