"""The fault proxy: what goes in comes out, late, never, or with a reset."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.faultproxy import FaultProxy
from tests.emulators.runpod_kit import eventually


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back whatever comes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[FaultProxy]:
    with FaultProxy(echo) as made:
        yield made


def dial(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=60)


def answered(connection: socket.socket, data: bytes) -> bytes:
    """What comes back for ``data``."""
    connection.sendall(data)
    found = b""
    while len(found) < len(data):
        part = connection.recv(1 << 20)
        if not part:
            break
        found += part
    return found


@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_everything_passes_in_order(proxy: FaultProxy, delay: float) -> None:
    proxy.delay_seconds = delay
    data = os.urandom(8 << 20)
    with dial(proxy) as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        seen = hashlib.sha256()
        left = len(data)
        while left:
            part = connection.recv(1 << 20)
            assert part
            seen.update(part)
            left -= len(part)
        sender.join()
    assert seen.digest() == hashlib.sha256(data).digest()
    eventually(lambda: proxy.connections() == 0, "the connection's end")


def test_each_direction_is_delayed(proxy: FaultProxy) -> None:
    proxy.delay_seconds = 0.5
    with dial(proxy) as connection:
        began = time.monotonic()
        assert answered(connection, b"hello") == b"hello"
        assert time.monotonic() - began >= 1.0


def test_half_a_close_passes(proxy: FaultProxy) -> None:
    with dial(proxy) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"last words"
        assert connection.recv(100) == b""


def test_a_cut_resets_and_new_connections_are_taken(proxy: FaultProxy) -> None:
    with dial(proxy) as connection:
        assert answered(connection, b"x") == b"x"
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with dial(proxy) as connection:
        assert answered(connection, b"y") == b"y"


def test_refusing_resets_new_connections_until_it_is_over(proxy: FaultProxy) -> None:
    proxy.refuse(seconds=3600)
    with pytest.raises(ConnectionResetError), dial(proxy) as connection:
        connection.recv(1)
    proxy.accept()
    with dial(proxy) as connection:
        assert answered(connection, b"x") == b"x"


def test_a_stall_says_nothing_and_loses_nothing(proxy: FaultProxy) -> None:
    with dial(proxy) as connection:
        assert answered(connection, b"x") == b"x"
        proxy.stall()
        connection.sendall(b"late")
        connection.settimeout(1.0)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        connection.settimeout(60)
        proxy.resume()
        assert connection.recv(4) == b"late"


def test_a_stalled_connection_can_be_cut(proxy: FaultProxy) -> None:
    with dial(proxy) as connection:
        assert answered(connection, b"x") == b"x"
        proxy.stall()
        connection.sendall(b"never")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_dead_upstream_is_a_reset() -> None:
    with FaultProxy(("127.0.0.1", 1)) as proxy, pytest.raises(ConnectionResetError), dial(proxy) as connection:
        connection.recv(1)


def test_it_runs_by_itself(echo: tuple[str, int]) -> None:
    command = [sys.executable, "-m", "tests.emulators.faultproxy", "--to", f"127.0.0.1:{echo[1]}", "--delay-ms", "1"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin
        assert running.stdout
        port = int(running.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            assert answered(connection, b"x") == b"x"
        running.stdin.close()
        assert running.wait(60) == 0
