"""HTTP around the API: faults, the authorization server, batches and the record of what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.emulators.drive import batch
from tests.emulators.drive.api import Api
from tests.emulators.drive.errors import ApiError
from tests.emulators.drive.messages import Answer, Request
from tests.emulators.drive.oauth import Reply, as_body
from tests.emulators.serving import Dropped, EmulatorServer, hang_up

CONSENT, TOKEN, REVOKE = "/o/oauth2/auth", "/token", "/revoke"


@dataclass(frozen=True)
class Call:
    """One request as it was answered; ``status`` 0 for none. Parts of a batch are calls of their own."""

    method: str
    path: str
    status: int
    query: dict[str, str]
    batched: bool = False


class Server(EmulatorServer):
    """Drive and its authorization server on one port."""

    def __init__(self, api: Api, port: int = 0) -> None:
        self.api = api
        self.calls: list[Call] = []
        super().__init__(port, Handler, "drive-http")

    def note(self, request: Request, status: int, batched: bool = False) -> None:
        """Remember a call."""
        with self.lock:
            self.calls.append(Call(request.method, request.path, status, request.query, batched))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    server: Server

    def handle_one(self) -> None:
        """Answer one request, whatever comes of it, and write it down."""
        request = self._read()
        status = 0
        try:
            answer = self._answer(request)
            status = answer.status
        except Dropped:
            return hang_up(self)
        finally:
            self.server.note(request, status)
        self._write(answer)
        return None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def _read(self) -> Request:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        method, query = self.command, parts.query
        if override := headers.get("x-http-method-override"):
            method, query, body = override, body.decode(), b""
        return Request(method, unquote(parts.path), dict(parse_qsl(query, keep_blank_values=True)), headers, body)

    def _answer(self, request: Request) -> Answer:
        """With the faults that concern any request. Raises Dropped."""
        faults, facts = self.server.api.files.faults, {"method": request.method, "path": request.path}
        if faults.take("drop", **facts):
            raise Dropped
        slow, lost = faults.take("slow", **facts), faults.take("lost", **facts)
        try:
            if request.path == batch.PATH:
                self.server.api.oauth.grant(request.headers.get("authorization", ""))
                return batch.answer_batch(request, self._part)
            return self._one(request)
        except ApiError as error:
            return refusal(error)
        finally:
            if slow:
                self.server.stopping.wait(slow["seconds"])
            if lost:
                raise Dropped

    def _part(self, request: Request) -> Answer:
        try:
            answer = self._one(request)
        except ApiError as error:
            answer = refusal(error)
        self.server.note(request, answer.status, batched=True)
        return answer

    def _one(self, request: Request) -> Answer:
        """Raises ApiError."""
        oauth, faults = self.server.api.oauth, self.server.api.files.faults
        if fault := faults.take("reply", method=request.method, path=request.path):
            wait = {"Retry-After": str(fault["wait"])} if fault["wait"] is not None else {}
            domain = "usageLimits" if fault["status"] in (403, 429) else "global"
            raise ApiError(fault["status"], fault["reason"], fault["message"], domain=domain, headers=wait)
        if request.path == CONSENT:
            return as_answer(oauth.consent(request.query))
        if request.path == TOKEN:
            return as_answer(oauth.token(dict(parse_qsl(request.body.decode()))))
        if request.path == REVOKE:
            oauth.revoke_all()
            return Answer(200, b"{}", {"Content-Type": "application/json"})
        return self.server.api.answer(request)

    def _write(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        self.send_header("Date", formatdate(self.server.api.files.clock.shown(), usegmt=True))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if answer.cut:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            return hang_up(self)
        self.wfile.write(answer.body)
        return None

    def log_message(self, *_: Any) -> None:
        """The calls are kept in ``calls`` instead."""


def refusal(error: ApiError) -> Answer:
    """An error as an answer."""
    return Answer(error.status, error.body, {"Content-Type": "application/json; charset=UTF-8"} | error.headers)


def as_answer(reply: Reply) -> Answer:
    """What the authorization server says."""
    if reply.location:
        return Answer(reply.status, b"", {"Location": reply.location})
    return Answer(reply.status, as_body(reply), {"Content-Type": "application/json"})
