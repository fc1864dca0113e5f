"""One SSH connection per machine: made when needed, shared by threads, made anew after it broke.

The machine is not trusted. Only modern host keys and ciphers are accepted, no agent, key or setting of the user is
looked at, nothing is forwarded, what it may send unasked is bounded by the channel's window, and every wait ends.
"""

from __future__ import annotations

import logging
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from backends.base import AuthError, NotYetReady, Rejected, Transient
from backends.channels.ssh_keys import CHANGED_ADVICE, HostKeys, Identity, changed_key

if TYPE_CHECKING:
    import paramiko

CONNECT_TIMEOUT = 15.0
IO_TIMEOUT = 60.0
"""Seconds without a byte, while one must come, after which a channel is given up."""
DEAD_SECONDS = 60
"""How long the other end may leave unanswered what was sent, before the system ends the connection."""
PROBE_TIMEOUT = 10.0
KEEPALIVE_SECONDS = 15

WINDOW_BYTES = 1 << 21
PULL_WINDOW_BYTES = 1 << 24
"""What a machine may send before we read it. Over 50 ms of round trip, 16 MiB allow 300 MB/s."""
PACKET_BYTES = 1 << 15
TEXT_BYTES = 1 << 16
"""Of what a program on a machine says for people."""

HOST_KEY_TYPES = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
DIGESTS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")


@dataclass(frozen=True, slots=True)
class SshAddress:
    """Where a machine's SSH server listens, and as whom to enter."""

    host: str
    port: int
    user: str = "root"

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Said:
    """What a program on the machine left: its exit code (-1: killed, or none came) and its output, bounded."""

    code: int
    out: bytes
    err: bytes


class Interrupted(Transient):
    """The connection broke, or nothing came, while a program on the machine was at work."""


class Connection:
    """The connection to one machine. Its methods may be called by any thread at any time."""

    def __init__(self, address: SshAddress, identity: Identity, host_keys: HostKeys, pin: str) -> None:
        self._address = address
        self._identity = identity
        self._host_keys = host_keys
        self._pin = pin
        self._lock = threading.Lock()
        self._transport: paramiko.Transport | None = None
        self.received_bytes = 0
        """Of all that ever came over it, as the network counts it."""

    def open(self, script: str, window: int = WINDOW_BYTES) -> Conversation:
        """Run a shell script on the machine and talk to it.

        Raises NotYetReady before the first contact ever, later Transient where the machine cannot be reached;
        AuthError or Rejected where it is no longer the machine we knew.
        """
        transport = self._alive()
        with self._broken_is_transient():
            asked = time.monotonic()
            channel = transport.open_session(window, PACKET_BYTES, timeout=CONNECT_TIMEOUT)
            conversation = Conversation(self, transport, channel, time.monotonic() - asked)
            with _closing_after(CONNECT_TIMEOUT, channel):
                channel.exec_command(f"exec sh -c {shlex.quote(script)}".encode("utf-8", "surrogateescape"))
        return conversation

    def run(self, script: str, given: bytes = b"", limit: int = TEXT_BYTES, patience: float = IO_TIMEOUT) -> Said:
        """Run a script to its end with ``given`` as its standard input; up to ``limit`` bytes of its output."""
        with self.open(script) as conversation:
            conversation.patience = patience
            with suppress(Interrupted):  # a program that does not read to the end has said why
                conversation.write(given)
            conversation.end()
            out = bytearray()
            while len(out) <= limit and (piece := conversation.read(TEXT_BYTES)):
                out += piece
            if len(out) > limit:
                raise Rejected(f"{self._address} sent more than {limit} bytes where a line was due")
            return Said(conversation.code(), bytes(out), conversation.complaints())

    def close(self) -> None:
        """Hang up; the next call connects anew."""
        with self._lock:
            if self._transport:
                self._transport.close()

    def check(self, transport: paramiko.Transport) -> None:
        """Hang up if the machine does not answer at all, so that the next call need not wait to find out."""
        import paramiko

        try:
            transport.open_session(timeout=PROBE_TIMEOUT).close()
        except paramiko.ChannelException:
            return  # it answers, if only to say that it has no room for one more
        except _troubles():
            transport.close()

    def _alive(self) -> paramiko.Transport:
        with self._lock:
            if self._transport is None or not self._transport.is_active():
                self._transport = self._connect()
            return self._transport

    def _connect(self) -> paramiko.Transport:
        pinned = self._host_keys.pinned(self._pin)
        with self._unreachable(known=pinned is not None):
            line = socket.create_connection((self._address.host, self._address.port), CONNECT_TIMEOUT)
            _notice_death(line)
        transport = self._negotiated(_Line(line, self), pinned)
        try:
            self._enter(transport, pinned)
        except BaseException:
            transport.close()
            raise
        transport.set_keepalive(KEEPALIVE_SECONDS)
        return transport

    def _negotiated(self, line: _Line, pinned: str | None) -> paramiko.Transport:
        """The transport, its server's host key compared with what is pinned."""
        import paramiko

        _quiet()
        transport = paramiko.Transport(line, WINDOW_BYTES, PACKET_BYTES)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = CONNECT_TIMEOUT
        options = transport.get_security_options()
        options.ciphers, options.digests = CIPHERS, DIGESTS
        options.key_types = _key_types(pinned)
        try:
            with self._unreachable(known=pinned is not None):
                transport.start_client(timeout=2 * CONNECT_TIMEOUT)
                shown = _as_text(transport.get_remote_server_key())
        except BaseException:
            transport.close()
            raise
        if pinned not in (None, shown):
            transport.close()
            raise changed_key(self._pin, str(pinned), shown)
        return transport

    def _enter(self, transport: paramiko.Transport, pinned: str | None) -> None:
        """Show our key; pin the machine's once it has let us in."""
        import paramiko

        with self._unreachable(known=pinned is not None):
            try:
                key = paramiko.Ed25519Key.from_private_key_file(str(self._identity.private))
                more = transport.auth_publickey(self._address.user, key)
            except paramiko.AuthenticationException as error:
                if not transport.is_active() or "timeout" in str(error):
                    raise
                more = [str(error)]
            if more:
                raise self._refused(known=pinned is not None)
        if pinned is None:
            self._host_keys.remember(self._pin, _as_text(transport.get_remote_server_key()))

    def _refused(self, *, known: bool) -> NotYetReady | AuthError:
        """A machine that has just begun may not have our key yet; one that let us in before has thrown us out."""
        if not known:
            return NotYetReady(f"{self._address} does not let us in yet")
        return AuthError(
            f"{self._address} let us in before and now refuses our key",
            advice=f"put the public half of {self._identity.private} back into its authorized_keys, or end the attempt",
        )

    def _incompatible(self, reason: str, *, known: bool) -> Rejected:
        if known:
            return Rejected(
                f"{self._address} has no host key of the kind that it showed at first contact ({reason}): the machine "
                "was replaced, or somebody stands in between. Nothing was sent to it",
                advice=CHANGED_ADVICE,
            )
        return Rejected(
            f"{self._address} speaks only kinds of SSH that are no longer safe: {reason}",
            advice="use an image with a newer SSH server",
        )

    @contextmanager
    def _unreachable(self, *, known: bool) -> Iterator[None]:
        """Trouble on the way is Transient, or NotYetReady for a machine that has never been reached."""
        import paramiko

        try:
            yield
        except paramiko.IncompatiblePeer as error:
            raise self._incompatible(_reason(error), known=known) from error
        except _troubles() as error:
            kind = Transient if known else NotYetReady
            raise kind(f"{self._address} cannot be reached: {_reason(error)}") from error

    @contextmanager
    def _broken_is_transient(self) -> Iterator[None]:
        try:
            yield
        except _troubles() as error:
            raise Transient(f"the connection to {self._address} broke: {_reason(error)}") from error


class _Line:
    """A socket whose bytes are counted as they come. Only its transport's own thread receives."""

    def __init__(self, line: socket.socket, connection: Connection) -> None:
        self._line = line
        self._connection = connection

    def recv(self, size: int) -> bytes:
        data = self._line.recv(size)
        self._connection.received_bytes += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        """Everything else as the socket does it."""
        return getattr(self._line, name)


class Conversation:
    """A program running on the machine. All errors of its methods are Interrupted.

    ``round_trip`` is the time in seconds from asking for its session to the answer.
    """

    def __init__(
        self, connection: Connection, transport: paramiko.Transport, channel: paramiko.Channel, round_trip: float
    ) -> None:
        self.round_trip = round_trip
        self._connection = connection
        self._transport = transport
        self._channel = channel
        channel.settimeout(IO_TIMEOUT)

    @property
    def patience(self) -> float:
        """Seconds without a byte after which it is given up."""
        return float(self._channel.gettimeout() or 0.0)

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._channel.settimeout(seconds)

    def beside(self, script: str) -> Conversation:
        """Another one, in a session of its own. Raises what `Connection.open` raises."""
        return self._connection.open(script)

    def write(self, data: bytes) -> None:
        """Send to its standard input."""
        with self._talking():
            self._channel.sendall(data)

    def end(self) -> None:
        """Say that nothing more comes."""
        with suppress(*_troubles()):
            self._channel.shutdown_write()

    def read(self, limit: int) -> bytes:
        """Of its standard output, at least a byte; empty at its end."""
        with self._talking():
            return bytes(self._channel.recv(limit))

    def complaints(self) -> bytes:
        """What it said on standard error, as far as it is here."""
        with suppress(*_troubles()):
            if self._channel.recv_stderr_ready():
                return bytes(self._channel.recv_stderr(TEXT_BYTES))
        return b""

    def code(self) -> int:
        """Its exit code, once it has said everything; -1 where none comes."""
        self._channel.status_event.wait(self.patience)
        return int(self._channel.exit_status)

    def close(self) -> None:
        """Hang up on it."""
        with suppress(*_troubles()):
            self._channel.close()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            self._connection.check(self._transport)
            raise Interrupted(f"the machine has not answered for {self.patience:.0f} s") from error
        except _troubles() as error:
            raise Interrupted(f"the connection to the machine broke: {_reason(error)}") from error


_connections: dict[str, tuple[SshAddress, Connection]] = {}
_connections_lock = threading.Lock()


def shared_connection(address: SshAddress, identity: Identity, host_keys: HostKeys, pin: str) -> Connection:
    """The connection to the machine ``pin``; where it has another address than before, a new one."""
    with _connections_lock:
        known = _connections.get(pin)
        if known and known[0] == address:
            return known[1]
        connection = Connection(address, identity, host_keys, pin)
        _connections[pin] = (address, connection)
    if known:
        known[1].close()
    return connection


def hang_up(pin: str) -> None:
    """End the connection to the machine ``pin``, if there is one: the machine is given back."""
    with _connections_lock:
        known = _connections.pop(pin, None)
    if known:
        known[1].close()


def printable(text: str, limit: int = 500) -> str:
    """Words of a machine, for people: bounded, without control characters, which could drive a terminal."""
    cut = text.strip()[:limit]
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in cut)


def _notice_death(line: socket.socket) -> None:
    """Let the system end a connection whose other end has fallen silent."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    probe = max(1, DEAD_SECONDS // 4)
    limits = {"TCP_KEEPIDLE": probe, "TCP_KEEPINTVL": probe, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": DEAD_SECONDS * 1000}
    for name, value in limits.items():
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _key_types(pinned: str | None) -> tuple[str, ...]:
    """The kinds of host key to accept: all that are safe, or the pinned one's alone, since servers have several."""
    if pinned is None:
        return HOST_KEY_TYPES
    kind = pinned.partition(" ")[0]
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


def _as_text(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def _reason(error: BaseException) -> str:
    return printable(str(error)) or type(error).__name__


@contextmanager
def _closing_after(seconds: float, channel: paramiko.Channel) -> Iterator[None]:
    """Close a channel whose server never answers a request: the library would wait for ever."""

    def close() -> None:
        with suppress(*_troubles()):
            channel.close()

    timer = threading.Timer(seconds, close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _quiet() -> None:
    """What the library logs may hold a machine's words; our errors say what matters."""
    log = logging.getLogger("paramiko")
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())


def _troubles() -> tuple[type[Exception], ...]:
    """What the library raises where a connection fails."""
    import paramiko

    return (paramiko.SSHException, EOFError, OSError)
