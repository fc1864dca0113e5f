"""The HTTP server under every emulator: serves in threads until stopped, and ends kept-alive connections then."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Dropped(Exception):
    """The connection ends here, without an answer."""


class EmulatorServer(ThreadingHTTPServer):
    """Serves on 127.0.0.1 until :meth:`stop`; connections that are kept alive end with it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler], name: str) -> None:
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.closed = threading.Condition(self.lock)
        super().__init__(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name=name, daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection until it ends."""
        with self.lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget it."""
        super().shutdown_request(request)
        with self.closed:
            self._open.discard(request)
            self.closed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no error of ours; anything else is, and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """End every connection, then the server."""
        self.stopping.set()
        self.shutdown()
        self._thread.join(timeout=60)
        self.server_close()
        with self.closed:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.closed.wait_for(lambda: not self._open, timeout=60)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """End the connection at once."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)
