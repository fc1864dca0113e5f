"""The wire of file transfer, the same at both ends: a stream of *blocks*, each a kind, a length and at most ``BLOCK``
bytes, deflated where that saves time. Carried to machines beside the runner: standard library, Python 3.8+.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from typing import Any, Callable, List

LINE_BYTES = 1 << 16
BLOCK = 1 << 18
"""Of content per block."""
READ_BYTES = 1 << 20

HEADER = struct.Struct(">cI")
RAW, DEFLATED, PING = b"r", b"z", b"p"

PING_SECONDS = 5.0
PING_PATIENCE_SECONDS = 1800.0
"""How long the other side may be busy (checking what lies there) without sending a byte."""

SAMPLE_BYTES = 1 << 13
BLOCKS_PER_SAMPLE = 8
WORTHWHILE = 0.9
"""A block that deflates to more than this share of itself travels as it is."""
FIRST_WIRE_SECONDS = 5e-8
"""Per byte, until measured: 20 MB/s."""
LEARNING = 0.2


class WireError(Exception):
    """The other side does not keep to the protocol."""


class Cut(Exception):
    """The other side is gone before it was done."""


class Outgoing:
    """A stream of blocks. A block is deflated only where that is faster than sending the bytes it saves: both are
    timed as they go, so a fast link carries bytes as they are and a slow one carries fewer."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._writes = [write]
        self._turn = 0
        self._held = bytearray()
        self._wire_seconds = FIRST_WIRE_SECONDS
        self._deflate_seconds = 0.0
        self._unsampled = 0
        self._pinged = time.monotonic()

    def spread(self, writes: List[Callable[[bytes], Any]]) -> None:
        """From the next block on, take turns with these. The other side has to know it."""
        self._writes += writes

    def put(self, data: bytes) -> None:
        """Send up to ``BLOCK`` bytes, perhaps together with what comes next."""
        if len(self._held) + len(data) > BLOCK:
            self.flush()
        if len(data) == BLOCK:
            self._emit(data)
        else:
            self._held += data

    def line(self, value: Any) -> None:
        """Send a value as one line of JSON, in pieces if it is long."""
        text = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        for begin in range(0, len(text), BLOCK):
            self.put(text[begin : begin + BLOCK])

    def flush(self) -> None:
        """Send what is held back."""
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            self._emit(held)

    def ping(self) -> None:
        """Say that we are still at it, every few seconds."""
        if time.monotonic() - self._pinged > PING_SECONDS:
            self._pinged = time.monotonic()
            self._send(HEADER.pack(PING, 0))

    def _emit(self, data: bytes) -> None:
        kind, body = RAW, data
        if self._is_worth_deflating(data):
            deflated = self._deflated(data)
            if len(deflated) < WORTHWHILE * len(data):
                kind, body = DEFLATED, deflated
        began = time.monotonic()
        self._send(HEADER.pack(kind, len(body)) + body)
        took = (time.monotonic() - began) / len(body)
        self._wire_seconds += LEARNING * (took - self._wire_seconds)

    def _send(self, block: bytes) -> None:
        self._writes[self._turn](block)
        self._turn = (self._turn + 1) % len(self._writes)

    def _is_worth_deflating(self, data: bytes) -> bool:
        """By a sample from its middle; what follows something that does not deflate is likely not to deflate either."""
        if self._unsampled:
            self._unsampled -= 1
            return False
        middle = max(0, (len(data) - SAMPLE_BYTES) // 2)
        sample = data[middle : middle + SAMPLE_BYTES]
        saved = 1 - len(self._deflated(sample)) / len(sample)
        if saved <= 1 - WORTHWHILE:
            self._unsampled = BLOCKS_PER_SAMPLE - 1
            return False
        return self._deflate_seconds < saved * self._wire_seconds

    def _deflated(self, data: bytes) -> bytes:
        began = time.monotonic()
        deflated = zlib.compress(data, 1)
        took = (time.monotonic() - began) / len(data)
        self._deflate_seconds += LEARNING * (took - self._deflate_seconds) if self._deflate_seconds else took
        return deflated


class Incoming:
    """The other end of such a stream. Nothing that arrives can make it hold more than two blocks, or wait for ever."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._lanes = [Lane(read)]
        self._turn = 0
        self._data, self._data_at = b"", 0

    def spread(self, reads: List[Callable[[int], bytes]]) -> None:
        """From the next block on, they come in turns over these as well."""
        self._lanes += [Lane(read) for read in reads]

    def skip_to(self, mark: bytes, limit: int) -> bytes:
        """Read until ``mark`` has passed; what came before it. Raises Cut, WireError after ``limit`` bytes without."""
        return self._lanes[0].skip_to(mark, limit)

    def some(self, limit: int) -> bytes:
        """At least one byte, at most ``limit``."""
        if self._data_at == len(self._data):
            self._data, self._data_at = self._block(), 0
        piece = self._data[self._data_at : self._data_at + limit]
        self._data_at += len(piece)
        return piece

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        pieces: List[bytes] = []
        while count:
            piece = self.some(count)
            pieces.append(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def line(self, limit: int = LINE_BYTES) -> Any:
        """The value of one line of JSON. Raises WireError where it is longer than ``limit``, or no JSON."""
        text = bytearray()
        while not text.endswith(b"\n"):
            if self._data_at == len(self._data):
                self._data, self._data_at = self._block(), 0
            end = self._data.find(b"\n", self._data_at) + 1 or len(self._data)
            text += self._data[self._data_at : end]
            self._data_at = end
            if len(text) > limit:
                raise WireError("a line is longer than %d bytes" % limit)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise WireError("a line is no JSON") from None

    def _block(self) -> bytes:
        give_up = time.monotonic() + PING_PATIENCE_SECONDS
        while True:
            lane = self._lanes[self._turn]
            self._turn = (self._turn + 1) % len(self._lanes)
            kind, length = HEADER.unpack(lane.exactly(HEADER.size))
            if kind == PING and length == 0:
                if time.monotonic() > give_up:
                    raise WireError("the other side sends nothing")
            elif kind in (RAW, DEFLATED) and 0 < length <= BLOCK:
                body = lane.exactly(length)
                return body if kind == RAW else inflated(body)
            else:
                raise WireError("what arrives is no block")


class Lane:
    """Bytes as they arrive over one session."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._chunk, self._chunk_at = b"", 0

    def skip_to(self, mark: bytes, limit: int) -> bytes:
        """See Incoming."""
        seen = b""
        while mark not in seen:
            if len(seen) > limit:
                raise WireError("nothing but noise arrives: %r" % seen[:200])
            piece = self._read(READ_BYTES)
            if not piece:
                raise Cut(seen[:limit].decode("utf-8", "replace"))
            seen += piece
        noise, _, self._chunk = seen.partition(mark)
        return noise

    def exactly(self, count: int) -> bytes:
        """So many bytes. Raises Cut."""
        pieces: List[bytes] = []
        while count:
            if self._chunk_at == len(self._chunk):
                self._chunk, self._chunk_at = self._read(READ_BYTES), 0
                if not self._chunk:
                    raise Cut("the connection ended")
            piece = self._chunk[self._chunk_at : self._chunk_at + count]
            self._chunk_at += len(piece)
            count -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def inflated(body: bytes) -> bytes:
    """A deflated block. Raises WireError where it is damaged, or holds more than a block may."""
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(body, BLOCK)
    except zlib.error as error:
        raise WireError("a block is damaged: %s" % error) from None
    if not data or not engine.eof or engine.unused_data or engine.unconsumed_tail:
        raise WireError("a block holds more than it may, or less than it says")
    return data
