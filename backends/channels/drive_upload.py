"""Content on its way to Drive: what is to be sent, and our own loop over the chunks of a resumable upload."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from googleapiclient.http import HttpRequest, MediaUpload

from backends.base import Progress, Rejected, Transient
from backends.channels.drive_replies import Absent, Entry, entry
from backends.channels.drive_requests import BYTES
from backends.channels.drive_session import Session, understood

CHUNK = 8 << 20
"""Bytes of one request; Drive takes multiples of 256 KiB. This much is sent again at most when a chunk breaks."""
BLOCK = 1 << 20
TRIES = 4
"""Chunks in a row that may fail without waiting before the call is given back as Transient."""
FRESH_STARTS = 2
"""Sessions that may be lost in one call."""


class Content(MediaUpload):  # type: ignore[misc]
    """Bytes or a file to upload, with their checksums. ``chunk`` in bytes; what is longer goes up in chunks.

    It gives bytes, never a stream: a stream is used up when the access token expires in the middle of a request, and
    the request that Google's client then sends again would wait for its body until it times out.
    """

    def __init__(self, source: bytes | Path, chunk: int = CHUNK) -> None:
        self._source = source
        self._chunk = chunk
        self.sha256, self.md5, self._size = _checksums(source)

    def chunksize(self) -> int:
        """Bytes of one chunk."""
        return self._chunk

    def mimetype(self) -> str:
        """Plain bytes, whatever they are."""
        return BYTES

    def size(self) -> int:
        """Bytes in all."""
        return self._size

    def resumable(self) -> bool:
        """Whether it takes more than one request."""
        return self._size > self._chunk

    def has_stream(self) -> bool:
        """Never."""
        return False

    def getbytes(self, begin: int, length: int) -> bytes:
        """``length`` bytes from ``begin``, fewer at the end."""
        if isinstance(self._source, bytes):
            return self._source[begin : begin + length]
        try:
            with self._source.open("rb") as file:
                file.seek(begin)
                block = file.read(length)
        except OSError as error:
            raise Rejected(f"{self._source} cannot be read: {error.strerror}") from error
        if len(block) < min(length, self._size - begin):
            raise Rejected(f"{self._source} became shorter while it was being uploaded")
        return block

    def check(self, stored: Entry) -> None:
        """Raise Transient unless Drive holds exactly this."""
        pairs = ((stored.sha256, self.sha256), (stored.md5, self.md5))
        told = [theirs == ours for theirs, ours in pairs if theirs is not None]
        if not told or not all(told) or stored.size != self._size:
            raise Transient(
                f"{stored.name}: what arrived on Google Drive is not what was sent; it has to be sent again"
            )


class Uploads:
    """Uploads under way. One that broke goes on where it stopped when it is asked for again in this process.

    Only the last content of a file goes on: an older session, found complete later, would pass for the newer content.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._open: dict[str, tuple[str, HttpRequest]] = {}

    def send(
        self,
        doing: str,
        file_id: str,
        content: Content,
        make: Callable[[], HttpRequest],
        progress: Progress,
        creates: bool,
    ) -> Entry:
        """Upload by the request that ``make`` gives; the file as Drive then has it.

        ``file_id`` says which file it becomes. Raises as ``Session.run``; Transient keeps the upload open.
        """
        begun = self._open.pop(file_id, None)
        if content.resumable():
            request = begun[1] if begun is not None and begun[0] == content.sha256 else make()
            document = self._in_chunks(doing, file_id, content, request, make, progress)
        else:
            document = self._session.run(doing, make(), creates=creates)
            progress(content.size(), content.size())
        return understood(doing, lambda: entry(document))

    def _in_chunks(
        self,
        doing: str,
        file_id: str,
        content: Content,
        request: HttpRequest,
        make: Callable[[], HttpRequest],
        progress: Progress,
    ) -> dict[str, object]:
        for _ in range(FRESH_STARTS):
            request.resumable = content  # the same bytes, perhaps under another path than last time
            try:
                return self._chunks(doing, request, content, progress)
            except Transient:
                self._open[file_id] = (content.sha256, request)
                raise
            except Absent:
                if request.resumable_uri is None:
                    raise
                request = make()
        raise Transient(f"{doing}: Google Drive forgets the upload's session again and again")

    def _chunks(self, doing: str, request: HttpRequest, content: Content, progress: Progress) -> dict[str, object]:
        failures = 0
        while True:
            try:
                reply: dict[str, object] | None = self._session.chunk(doing, request)
            except Transient as trouble:
                failures += 1
                if failures >= TRIES or trouble.retry_after is not None:
                    raise
                continue
            failures = 0
            progress(content.size() if reply is not None else request.resumable_progress, content.size())
            if reply is not None:
                return reply


def _checksums(source: bytes | Path) -> tuple[str, str, int]:
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    for block in [source] if isinstance(source, bytes) else _blocks(source):
        sha256.update(block)
        md5.update(block)
        size += len(block)
    return sha256.hexdigest(), md5.hexdigest(), size


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
