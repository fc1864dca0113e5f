"""A TCP proxy that can be slow, silent, deaf or rude: what networks do to an SSH connection, on demand.

    with FaultProxy(("127.0.0.1", 22), delay_seconds=0.025) as proxy:    # 50 ms of added round trip
        ssh.connect("127.0.0.1", proxy.port)
        proxy.cut()                                                      # connections are reset
        proxy.refuse(seconds=60)                                         # new ones too, for a minute
        proxy.stall(); proxy.resume()                                    # nothing passes, nothing is said

By hand, in a process of its own so that it does not share the client's interpreter:
``python -m tests.emulators.faultproxy --to HOST:PORT --delay-ms 25``.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

CHUNK_BYTES = 1 << 18
WINDOW_BYTES = 64 << 20
"""How much may be under way in one direction: the product of a fast network and a long delay."""
LOOK_SECONDS = 0.2
"""How often a pump that cannot go on looks whether it has been abandoned."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() send RST instead of FIN."""

Address = tuple[str, int]


class FaultProxy:
    """Listens on ``host:port`` (port 0: any free one) and passes everything on to ``upstream``, both ways.

    ``delay_seconds`` is added to each byte in each direction without limiting the rate; it may be changed while
    connections are open. All methods may be called from any thread.
    """

    def __init__(
        self, upstream: Address, *, host: str = "127.0.0.1", port: int = 0, delay_seconds: float = 0.0
    ) -> None:
        self.upstream = upstream
        self.delay_seconds = delay_seconds
        self.accepted = 0
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refuse_until = 0.0
        self._listener = socket.create_server((host, port), backlog=64)
        self.host: str = host
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name=f"faultproxy-{self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> int:
        """Reset every open connection; returns how many there were."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    def refuse(self, seconds: float = float("inf")) -> None:
        """Reset every new connection for so long, or until :meth:`accept`."""
        self._refuse_until = time.monotonic() + seconds

    def accept(self) -> None:
        """Take new connections again."""
        self._refuse_until = 0.0

    def stall(self) -> None:
        """Pass nothing on, say nothing: as when a cable is pulled. New connections are taken, and hang."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on what has waited, and what comes."""
        self._flowing.set()

    def connections(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._links)

    def close(self) -> None:
        """Stop listening and reset what is open. May be called twice."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._flowing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=30)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            self.accepted += 1
            if time.monotonic() < self._refuse_until:
                _reset(client)
            else:
                threading.Thread(target=self._open, args=(client,), daemon=True).start()

    def _open(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self.upstream, timeout=30)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        link = _Link(self, client, server)
        with self._lock:
            self._links.add(link)
        link.run()
        with self._lock:
            self._links.discard(link)

    def flows(self, seconds: float) -> bool:
        """Whether bytes may pass; waits so long for it."""
        return self._flowing.wait(seconds)


class _Link:
    """One connection through the proxy: two pumps, one for each direction."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._sockets = (client, server)
        for end in self._sockets:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pumps = (_Pump(proxy, client, server, self.reset), _Pump(proxy, server, client, self.reset))

    def run(self) -> None:
        """Pump until both directions have ended, then close both ends."""
        threads = [thread for pump in self._pumps for thread in pump.threads()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def reset(self) -> None:
        """End both directions now; both peers see a reset. The threads close the sockets."""
        for pump in self._pumps:
            pump.abandon()
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RD)


class _Pump:
    """One direction: a reader fills a queue of (when due, bytes), a writer empties it in time."""

    def __init__(self, proxy: FaultProxy, source: socket.socket, sink: socket.socket, fail: Callable[[], None]) -> None:
        self._proxy = proxy
        self._source = source
        self._sink = sink
        self._fail = fail
        self._queue: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._state = threading.Condition()
        self._abandoned = False

    def threads(self) -> list[threading.Thread]:
        """Its two threads, not yet started."""
        return [threading.Thread(target=each, daemon=True) for each in (self._read, self._write)]

    def abandon(self) -> None:
        """Forget what is queued, and end."""
        with self._state:
            self._abandoned = True
            self._state.notify_all()

    def _read(self) -> None:
        while True:
            try:
                data = self._source.recv(CHUNK_BYTES)
            except OSError:
                data = b""
            with self._state:
                self._state.wait_for(lambda: self._bytes < WINDOW_BYTES or self._abandoned)
                self._queue.append((time.monotonic() + self._proxy.delay_seconds, data))
                self._bytes += len(data)
                self._state.notify_all()
                if not data or self._abandoned:
                    return

    def _write(self) -> None:
        try:
            while (data := self._next()) is not None:
                self._send(data)
        except OSError:
            self._fail()
            return
        if not self._abandoned:
            with contextlib.suppress(OSError):
                self._sink.shutdown(socket.SHUT_WR)

    def _send(self, data: bytes) -> None:
        """All of it, unless the pump is abandoned meanwhile: a peer that reads nothing must not hold a reset up."""
        room = select.poll()
        room.register(self._sink, select.POLLOUT)
        view = memoryview(data)
        while view and not self._abandoned:
            if self._proxy.flows(LOOK_SECONDS) and room.poll(LOOK_SECONDS * 1000):
                with contextlib.suppress(BlockingIOError):
                    view = view[self._sink.send(view, socket.MSG_DONTWAIT) :]

    def _next(self) -> bytes | None:
        """The next bytes when they are due; None at the end of this direction."""
        with self._state:
            self._state.wait_for(lambda: self._queue or self._abandoned)
            if self._abandoned:
                return None
            due, data = self._queue.popleft()
            while not self._abandoned and (left := due - time.monotonic()) > 0:
                self._state.wait(left)
            self._bytes -= len(data)
            self._state.notify_all()
        return data or None


def _reset(end: socket.socket) -> None:
    """Close a socket with RST."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.close()


def main() -> None:
    """Run one proxy until standard input ends; its port is printed first."""
    parser = argparse.ArgumentParser(description="A TCP proxy that adds delay.")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="added in each direction")
    given = parser.parse_args()
    host, _, port = given.to.rpartition(":")
    with FaultProxy((host, int(port)), port=given.port, delay_seconds=given.delay_ms / 1000) as proxy:
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
