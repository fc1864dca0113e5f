"""Keys of providers: from the environment, a file that only the user can read, or the OS keyring.

The environment goes first. What `gpujob backends setup` was given lies in the keyring where there is one, else in a
file; a note beside it says which, so that nobody who has no key waits for a keyring to be looked through.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.home import Home

KEYRING_SERVICE = "gpujob"


class Credentials:
    """The keys that one home may use."""

    def __init__(self, home: Home, environment: Mapping[str, str] = os.environ) -> None:
        self._folder = home.credentials
        self._environment = environment

    def find(self, name: str) -> str | None:
        """The value of ``name``; None where it was never set up."""
        if value := self._environment.get(name, "").strip():
            return value
        try:
            return self._file(name).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return from_keyring(name) if self._note(name).exists() else None

    def only_here(self, name: str) -> bool:
        """Whether only this process's environment has it: a worker that another terminal starts will not."""
        kept = self._file(name).exists() or self._note(name).exists()
        return bool(self._environment.get(name, "").strip()) and not kept

    def keep(self, name: str, value: str, *, in_file: bool = False) -> str:
        """Store it in the keyring, or in a file where there is no keyring or ``in_file``; where, in words."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not in_file and _to_keyring(name, value):
            self._write(self._note(name), "")
            self._file(name).unlink(missing_ok=True)
            return "the OS keyring"
        self._write(self._file(name), value)
        self._note(name).unlink(missing_ok=True)
        return str(self._file(name))

    def _file(self, name: str) -> Path:
        return self._folder / name

    def _note(self, name: str) -> Path:
        return self._folder / f"{name}.in-keyring"

    def _write(self, path: Path, text: str) -> None:
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def from_keyring(name: str) -> str | None:
    """The OS keyring's value; None without the ``keyring`` extra or a keyring service."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ModuleNotFoundError:
        return None
    with suppress(KeyringError):
        value: str | None = keyring.get_password(KEYRING_SERVICE, name)
        return value
    return None


def _to_keyring(name: str, value: str) -> bool:
    """Whether the keyring has taken it, which is read back: some that do nothing say nothing."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ModuleNotFoundError:
        return False
    try:
        keyring.set_password(KEYRING_SERVICE, name, value)
    except KeyringError:
        return False
    return from_keyring(name) == value
