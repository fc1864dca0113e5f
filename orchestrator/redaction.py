"""Secrets out of texts: known values in every form they travel in, and what has the shape of a credential."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "***"

_SHORTEST = 4
"""Shorter values are left alone: replacing every ``1`` or ``yes`` would hide nothing and spoil every text."""
_SHORTEST_ENCODED = 8
"""Values below this many bytes are not looked for in base64, where their few characters appear by chance."""

# A credential's prefix starts a word (it may follow "_" or "="), so that a long word is tried once: linear.
_START = r"(?<![A-Za-z0-9])"
_PEM = r"PRIVATE KEY-----"
_IS = r"\\?[\"']?\s{0,4}[:=]\s{0,4}\\?[\"']?"
_SHAPES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # A key is hidden also where its end or, at the start of a tail, its beginning is cut off.
        (rf"-----BEGIN [A-Z0-9 ]{{0,40}}{_PEM}(?s:.*?)(?:-----END [A-Z0-9 ]{{0,40}}{_PEM}|\Z)", MASK),
        (rf"\A[A-Za-z0-9+/=\s\\]*-----END [A-Z0-9 ]{{0,40}}{_PEM}", MASK),
        (r"(://[^\s/:@\"'<>]{0,256}:)[^\s/\"'<>]{1,512}@", rf"\1{MASK}@"),
        (r"(?i)([?&](?:api_?key|(?:access_)?token|sig)=)[^\s&\"'<>]+", rf"\1{MASK}"),
        (r"(?i)([?&]x-(?:amz|goog)-(?:signature|security-token)=)[^\s&\"'<>]+", rf"\1{MASK}"),
        (rf"(?i)(\bauthorization{_IS}(?:(?:bearer|basic|token)\s{{1,4}})?)[^\s\"',\\]+", rf"\1{MASK}"),
        (r"(?i)(\bbearer\s{1,4})[A-Za-z0-9._~+/=-]{16,}", rf"\1{MASK}"),
        (rf"(?i)(secret_?access_?key{_IS})[A-Za-z0-9/+=]{{16,}}", rf"\1{MASK}"),
        (rf"(?i)(session_?token{_IS})[A-Za-z0-9/+=]{{16,}}", rf"\1{MASK}"),
        (rf"{_START}(?:AKIA|ASIA)[A-Z0-9]{{16}}(?![A-Za-z0-9])", MASK),
        (rf"{_START}(?:hf_|rpa_|gh[opsur]_)[A-Za-z0-9]{{16,}}", MASK),
        (rf"{_START}(?:sk-|github_pat_|glpat-)[A-Za-z0-9_-]{{16,}}", MASK),
        (rf"{_START}(?:ya29\.[A-Za-z0-9_-]{{10,}}|AIza[A-Za-z0-9_-]{{35}})", MASK),
        # A JSON web token starts after neither "_" nor "-", which may be part of one: linear.
        (r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", MASK),
    )
)


class Redactor:
    """Replaces secrets in a text by ``***``; other text passes unchanged, and redacting twice changes nothing.

    ``values`` are the secrets known by value. They are found as they are and in the forms in which programs
    print them: percent-encoded, JSON-escaped, in base64 (also inside a longer one, as in Basic credentials),
    and each long line of a value of several. Values of fewer than 4 characters are ignored.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values for form in _forms(value.strip())}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(_pattern, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """``text`` without secrets. Takes time linear in its length."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text


def _pattern(form: str) -> str:
    """``form`` literally, but with percent escapes in either case."""
    return re.sub(r"%[0-9A-F]{2}", lambda escape: f"(?i:{escape[0]})", re.escape(form))


def _forms(value: str) -> Iterator[str]:
    if len(value) < _SHORTEST:
        return
    yield value
    yield from (quote(value, safe=safe, errors="surrogateescape") for safe in ("/", ""))
    yield quote_plus(value, errors="surrogateescape")
    yield from (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    lines = value.splitlines()
    yield from (line.strip() for line in lines if len(lines) > 1 and len(line.strip()) >= _SHORTEST_ENCODED)
    yield from _base64_forms(value.encode(errors="surrogateescape"))


def _base64_forms(value: bytes) -> Iterator[str]:
    """The characters that ``value`` alone decides, at each of the three places it may have in a group of three."""
    if len(value) < _SHORTEST_ENCODED:
        return
    for before in range(3):
        first, end = -(-before * 8 // 6), (before + len(value)) * 8 // 6
        text = base64.b64encode(bytes(before) + value).decode()[first:end]
        yield from (text, text.replace("+", "-").replace("/", "_"))
