"""HTTP: authentication, rate limits, faults and answers around the two APIs, on one port."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.emulators.clock import rfc3339
from tests.emulators.runpod.fleet import Fleet
from tests.emulators.runpod.legacy import Legacy
from tests.emulators.runpod.limits import RateLimit
from tests.emulators.runpod.problems import Gateway, Problem
from tests.emulators.runpod.rest import Answer, LogStream, Request, Rest
from tests.emulators.serving import Dropped, EmulatorServer, hang_up

MOST_BODY_BYTES = 102_400
KEEPALIVE_SECONDS = 5.0


@dataclass(frozen=True)
class Call:
    """One request as it was answered; ``status`` 0 for none. ``pod_id``: it came with that pod's own key."""

    method: str
    path: str
    status: int
    pod_id: str | None = None
    body: Any = None


class Server(EmulatorServer):
    """The two APIs, the rate limit and the record of what was asked."""

    def __init__(self, fleet: Fleet, port: int = 0) -> None:
        self.fleet = fleet
        self.rest = Rest(fleet)
        self.legacy = Legacy(fleet)
        self.limit = RateLimit(fleet.settings.quotas)
        self.calls: list[Call] = []
        super().__init__(port, Handler, "runpod-http")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    server: Server
    pod_id: str | None

    def handle_one(self) -> None:
        """Answer one request, whatever comes of it, and write it down."""
        status = 0
        self.pod_id = None
        self._body: Any = None
        self._limited = False
        path = unquote(urlsplit(self.path).path)
        try:
            status = self._answer(path)
        except Dropped:
            pass
        except Problem as problem:
            status = problem.status
            self._write(status, json.dumps(problem.document()), problem.headers, kind="application/problem+json")
        except Gateway as page:
            status = page.status
            self._write(status, f"<html><body><h1>{status}</h1></body></html>", {}, kind="text/html")
        finally:
            with self.server.lock:
                self.server.calls.append(Call(self.command, path, status, self.pod_id, self._body))
            if status == 0:
                hang_up(self)  # once it is on record: whoever sees the connection end may look there

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def _answer(self, path: str) -> int:
        raw = self._read()
        faults, facts = self.server.fleet.faults, {"method": self.command, "path": path}
        if faults.take("drop", **facts):
            raise Dropped
        self.pod_id = self._authenticate()
        self._limited = True
        with self.server.lock:
            self.server.limit.count(self.server.fleet.clock.now())
        if fault := faults.take("reply", **facts):
            wait = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault.value else {}
            raise Gateway(fault["status"]) if fault["html"] else Problem(fault["status"], fault["detail"], headers=wait)
        self.server.fleet.enforce_balance()
        lost, slow = faults.take("lost", **facts), faults.take("slow", **facts)
        try:
            answer = self._carry_out(path, raw)
        finally:
            if slow:
                self.server.stopping.wait(slow["seconds"])
            if lost:
                self.server.stopping.wait(lost["hold"])
                raise Dropped
        if isinstance(answer, LogStream):
            self._stream(answer)
            return 200
        self._write(answer.status, None if answer.document is None else json.dumps(answer.document), {})
        return answer.status

    def _read(self) -> bytes:
        """The body. Raises Problem 413."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if len(body) > MOST_BODY_BYTES:
            raise Problem(413, f"request body larger than {MOST_BODY_BYTES} bytes")
        return body

    def _authenticate(self) -> str | None:
        """None for the account's key, the pod's id for a pod-scoped one. Raises Problem 401."""
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            raise Problem(401, "missing bearer token")
        if key == self.server.fleet.settings.key:
            return None
        for pod in self.server.fleet.pods():
            if pod.key == key:
                return pod.id
        raise Problem(401, "invalid bearer token")

    def _carry_out(self, path: str, raw: bytes) -> Answer | LogStream:
        if raw:
            try:
                self._body = json.loads(raw)
            except ValueError as error:
                raise Problem(400, "request body is not JSON") from error
        if path == "/graphql" and self.command == "POST":
            return Answer(200, self.server.legacy.answer(self._body, self.pod_id))
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        return self.server.rest.answer(
            Request(
                method=self.command, path=path, query=query, body=self._body, pod_id=self.pod_id,
                last_event_id=self.headers.get("Last-Event-ID"),
            )
        )  # fmt: skip

    # --- writing ---

    def _headers(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        self.send_header("Date", formatdate(self.server.fleet.clock.shown(), usegmt=True))
        if self._limited:
            with self.server.lock:
                headers = self.server.limit.headers(self.server.fleet.clock.now()) | headers
        for name, value in headers.items():
            self.send_header(name, value)

    def _write(self, status: int, text: str | None, headers: dict[str, str], kind: str = "application/json") -> None:
        body = (text or "").encode()
        self._headers(status, headers)
        if text is not None:
            self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, stream: LogStream) -> None:
        """Server-sent events until the client goes, the pod is terminated or the emulator stops."""
        self._headers(200, {"Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"})
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        number, beat, goes_on = stream.number, time.monotonic(), True
        while goes_on and not self.server.stopping.is_set():
            for line in stream.pod.logs.after(number):
                number = line.number
                if stream.source in (None, line.source):
                    moment = rfc3339(line.moment)
                    data = json.dumps({"ts": moment, "source": line.source, "line": line.text})
                    self._chunk(f"id: {moment}/{line.number:012}\ndata: {data}\n\n")
            if time.monotonic() > beat + KEEPALIVE_SECONDS:
                beat = time.monotonic()
                self._chunk(": keepalive\n\n")
            goes_on = stream.pod.logs.wait(number, 0.25)
        self._chunk("")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """The calls are kept in ``calls`` instead."""
