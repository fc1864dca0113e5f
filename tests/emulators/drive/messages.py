"""Requests and answers as values, and MIME bodies cut by hand: the email package would touch binary parts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.drive.errors import ApiError


@dataclass(frozen=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""

    def json(self) -> Any:
        """The body. Raises ApiError 400."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise ApiError(400, "parseError", "Parse Error") from error


@dataclass(frozen=True)
class Answer:
    """One answer; ``cut``: the connection ends in the middle of the body."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def json_answer(document: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON body."""
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json; charset=UTF-8"} | headers)


def parts(body: bytes, content_type: str) -> list[tuple[dict[str, str], bytes]]:
    """A multipart body as headers and contents, with the line ends that its first line has. Raises ApiError 400."""
    match = re.search(r'boundary="?([^";]+)"?', content_type)
    if not match:
        raise ApiError(400, "badContent", "Missing multipart boundary.")
    end = b"\r\n" if body.lstrip().partition(b"\n")[0].endswith(b"\r") else b"\n"
    pieces = (end + body).split(end + b"--" + match[1].encode())
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise ApiError(400, "badContent", "Malformed multipart body.")
    return [_part(piece.removeprefix(end), end) for piece in pieces[1:-1]]


def _part(piece: bytes, end: bytes) -> tuple[dict[str, str], bytes]:
    head, _, content = piece.partition(end + end)
    return headers_of(head.decode()), content


def headers_of(head: str) -> dict[str, str]:
    """Header lines as a mapping with names in lower case."""
    lines = re.sub(r"\r?\n[ \t]+", " ", head).splitlines()
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}
