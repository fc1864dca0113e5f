"""Many requests in one: ``POST /batch/drive/v3``."""

from __future__ import annotations

from collections.abc import Callable
from http.client import responses
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.emulators.drive.errors import ApiError
from tests.emulators.drive.messages import Answer, Request, headers_of, parts

PATH = "/batch/drive/v3"
MOST = 100


def answer_batch(request: Request, one: Callable[[Request], Answer]) -> Answer:
    """Each part answered by ``one``, as if it had come alone; content cannot be moved this way."""
    found = parts(request.body, request.headers.get("content-type", ""))
    if len(found) > MOST:
        raise ApiError(400, "invalid", f"The batch request has more than {MOST} calls.")
    boundary = "batch_emulated"
    replies = [_part(boundary, headers.get("content-id", ""), one(_inner(body, request))) for headers, body in found]
    body = b"".join(replies) + f"--{boundary}--\r\n".encode()
    return Answer(200, body, {"Content-Type": f"multipart/mixed; boundary={boundary}"})


def _inner(text: bytes, outer: Request) -> Request:
    first, _, rest = text.replace(b"\r\n", b"\n").partition(b"\n")
    head, _, body = rest.partition(b"\n\n")
    method, target = first.decode().split()[:2]
    parts_of = urlsplit(target)
    query = dict(parse_qsl(parts_of.query, keep_blank_values=True))
    if parts_of.path.startswith("/upload/") or query.get("alt") == "media":
        raise ApiError(400, "invalid", "Media cannot be moved in a batch.")
    inherited = {name: value for name, value in outer.headers.items() if name == "authorization"}
    return Request(method, unquote(parts_of.path), query, inherited | headers_of(head.decode()), body.strip())


def _part(boundary: str, content_id: str, answer: Answer) -> bytes:
    head = [f"--{boundary}", "Content-Type: application/http"]
    if content_id:
        head.append(f"Content-ID: <response-{content_id.strip('<>')}>")
    head += ["", f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}"]
    head += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*head, f"Content-Length: {len(answer.body)}", "", ""]).encode() + answer.body + b"\r\n"
