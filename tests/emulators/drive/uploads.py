"""Content on its way in: in one piece, with its metadata, or in chunks with a session."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.drive.discovery import Method, check_body
from tests.emulators.drive.errors import ApiError
from tests.emulators.drive.files import File, Files
from tests.emulators.drive.messages import Answer, Request, parts
from tests.emulators.drive.oauth import Grant

CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Session:
    """A resumable upload; ``made`` once it is over."""

    grant: Grant
    metadata: dict[str, Any]
    target: File | None
    total: int | None
    ends: float
    received: bytearray = field(default_factory=bytearray)
    made: File | None = None


class Uploads:
    """The upload road: simple, multipart and resumable."""

    def __init__(self, files: Files, url: str = "") -> None:
        self.files, self.url = files, url
        self.sessions: dict[str, Session] = {}

    def begin(self, grant: Grant, method: Method, request: Request, target: File | None) -> Answer | File:
        """The file, or the session that its content is to be sent to."""
        kind = request.query.get("uploadType", "media")
        if kind == "resumable":
            return self._open(grant, method, request, target)
        metadata, content, mime = {}, request.body, request.headers.get("content-type", "")
        if kind == "multipart":
            metadata, content, mime = _taken_apart(method, request)
        elif kind != "media":
            raise ApiError(400, "invalid", f"Unknown upload type {kind}", location="uploadType")
        if target is None:
            metadata = {"mimeType": mime or "application/octet-stream"} | metadata
        return self._store(grant, metadata, content, target)

    def receive(self, session_id: str, request: Request) -> Answer | File:
        """The next chunk, or the question how far it is. Raises ApiError 404 for a session that is gone."""
        now = self.files.clock.now()
        session = self.sessions.get(session_id)
        if self.files.faults.take("lost session"):
            self.sessions.pop(session_id, None)
            session = None
        if session is None or now > session.ends:
            raise ApiError(404, "notFound", "Upload session not found.")
        start, end, total = _content_range(request)
        if session.made is None and start is not None:
            self._add(session, request.body, start, end, total)
        if session.made is not None:
            return session.made
        if total is not None and len(session.received) == total:
            session.made = self._store(session.grant, session.metadata, bytes(session.received), session.target)
            return session.made
        stored = {"Range": f"bytes=0-{len(session.received) - 1}"} if session.received else {}
        return Answer(308, b"", stored)

    def _open(self, grant: Grant, method: Method, request: Request, target: File | None) -> Answer:
        metadata = request.json()
        check_body(method.request or "File", metadata)
        size = request.headers.get("x-upload-content-length", "")
        if target is None:
            mime = request.headers.get("x-upload-content-type", "application/octet-stream")
            metadata = {"mimeType": mime} | metadata
            if "id" in metadata:
                self.files.check_id(metadata["id"])
        held = len(target.content or b"") if target else 0
        self.files.check_room(grant, int(size or 0) - held)
        session_id = "ADPycd" + secrets.token_urlsafe(24)
        total = int(size) if size else None
        ends = self.files.clock.now() + self.files.settings.session_seconds
        self.sessions[session_id] = Session(grant, metadata, target, total, ends)
        fields = f"&fields={request.query['fields']}" if "fields" in request.query else ""
        query = f"uploadType=resumable{fields}&upload_id={session_id}"
        return Answer(200, b"", {"Location": f"{self.url}{request.path}?{query}", "X-GUploader-UploadID": session_id})

    def _add(self, session: Session, body: bytes, start: int, end: int, total: int | None) -> None:
        if end - start + 1 != len(body) or (session.total is not None and total not in (None, session.total)):
            raise ApiError(400, "invalid", "Failed to parse Content-Range header.")
        if len(body) % CHUNK and (total is None or end + 1 != total):
            raise ApiError(400, "invalid", "Chunks must be multiples of 256 KiB, except for the last.")
        if start > len(session.received):
            raise ApiError(400, "invalid", "Invalid request. There were bytes missing before this chunk.")
        if fault := self.files.faults.take("broken chunk"):
            session.received += body[len(session.received) - start :][: len(body) // 2 // CHUNK * CHUNK]
            raise ApiError(fault["status"], "backendError", "Backend Error")
        session.received += body[len(session.received) - start :]

    def _store(self, grant: Grant, metadata: dict[str, Any], content: bytes, target: File | None) -> File:
        if target is None:
            return self.files.create(grant, metadata, content)
        if target.id not in self.files.all:
            raise ApiError(404, "notFound", f"File not found: {target.id}.", location="fileId")
        return self.files.update(grant, target, metadata, content)


def _taken_apart(method: Method, request: Request) -> tuple[dict[str, Any], bytes, str]:
    found = parts(request.body, request.headers.get("content-type", ""))
    if len(found) != 2:
        raise ApiError(400, "badContent", "A multipart upload has two parts.")
    (_, text), (headers, content) = found
    try:
        metadata = json.loads(text or b"{}")
    except ValueError as error:
        raise ApiError(400, "parseError", "Parse Error") from error
    check_body(method.request or "File", metadata)
    return metadata, content, headers.get("content-type", "")


def _content_range(request: Request) -> tuple[int | None, int, int | None]:
    """Start, end and total; a start of None asks only how far it is."""
    text = request.headers.get("content-range")
    if text is None:
        return 0, len(request.body) - 1, len(request.body)
    match = _RANGE.fullmatch(text)
    if not match:
        raise ApiError(400, "invalid", "Failed to parse Content-Range header.")
    total = None if match[3] == "*" else int(match[3])
    return (None, -1, total) if match[1] is None else (int(match[1]), int(match[2]), total)
