"""Keys of SSH: our own pair, made once per home, and the host keys of machines, pinned at first contact."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backends.base import Rejected

COMMENT = "gpujob"
KEY_NAME = "id_ed25519"
CHANGED_ADVICE = (
    "look at the machine in the provider's console; if it was restarted there, end this attempt and let a new machine "
    "be rented"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Our key pair: the file with the private half, and the public half as a line of ``authorized_keys``."""

    private: Path
    public: str


def identity(folder: Path) -> Identity:
    """The home's own ed25519 key pair in ``folder``, made if it is not there. Any number of processes get the same."""
    path = folder / KEY_NAME
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    path.chmod(0o600)
    return Identity(path, _public_line(path))


def _make(path: Path) -> None:
    """Write a new private key; the first process to finish wins."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    with _draft(path, text) as draft, suppress(FileExistsError):
        os.link(draft, path)


def _public_line(path: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise Rejected(
            f"{path} holds no private key that can be read: {error}",
            advice="move it away; a new one is made, which machines that were given the old one do not know",
        ) from error
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{public.decode()} {COMMENT}"


@contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """A file beside ``path``, for us alone, whose bytes would survive a power cut; removed afterwards."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


class HostKeys:
    """Which host key each machine showed at first contact: a private JSON file, shared by all workers.

    A pin's name tells one start of one machine, so a restarted machine, which has a new key, has a new name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def pinned(self, pin: str) -> str | None:
        """The key of ``pin`` as ``"type base64"``; None before the first contact."""
        return self._read().get(pin)

    def remember(self, pin: str, key: str) -> None:
        """Pin ``key``. Raises Rejected where another one is pinned."""
        with self._locked():
            pins = self._read()
            known = pins.setdefault(pin, key)
            if known != key:
                raise changed_key(pin, known, key)
            self._write(pins)

    def forget(self, pin: str) -> None:
        """The machine is gone; nothing about it need be remembered."""
        with self._locked():
            pins = self._read()
            if pins.pop(pin, None):
                self._write(pins)

    def _read(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise Rejected(
                f"{self._path} cannot be read: {error}", advice="move it away; machines are then pinned anew"
            ) from error

    def _write(self, pins: dict[str, str]) -> None:
        with _draft(self._path, json.dumps(pins, indent=1).encode()) as draft:
            draft.replace(self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def changed_key(pin: str, known: str, shown: str) -> Rejected:
    """The error for a machine that is not the one we knew."""
    return Rejected(
        f"the host key of {pin} has changed from {fingerprint(known)} to {fingerprint(shown)}: the machine was "
        "replaced, or somebody stands in between. Nothing was sent to it",
        advice=CHANGED_ADVICE,
    )


def fingerprint(key: str) -> str:
    """As OpenSSH prints it: ``SHA256:...``."""
    digest = hashlib.sha256(base64.b64decode(key.partition(" ")[2])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
