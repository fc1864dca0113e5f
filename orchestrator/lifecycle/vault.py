"""Values of secrets: from the environment or the OS keyring, never into the journal.

A worker outlives the terminal in which ``submit`` was typed, and must still have the values after a reboot. So
values found in that terminal's environment wait in a file that only the user can read, and which is deleted when the
job ends; values in the OS keyring stay there and are looked up at run time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.credentials import KEYRING_SERVICE, from_keyring
from orchestrator.home import Home


class MissingSecret(Exception):
    """A secret that the spec names has no value; the message says how to give it one."""


def found_now(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The value of each, of this terminal or the keyring; nothing is stored. Raises MissingSecret if one lacks."""
    values: dict[str, str] = {}
    for name in names:
        value = environment.get(name) or from_keyring(name)
        if value is None:
            raise MissingSecret(
                f"The secret {name} has no value. Set it in this terminal (export {name}=...), "
                f"or keep it in the OS keyring (keyring set {KEYRING_SERVICE} {name})."
            )
        values[name] = value
    return values


class Vault:
    """The secrets of one home's unfinished jobs."""

    def __init__(self, home: Home) -> None:
        self._folder = home.secrets

    def keep(self, job: str, names: Iterable[str], environment: Mapping[str, str]) -> None:
        """Store what the environment holds of ``names`` for ``job``. Raises MissingSecret for one found nowhere."""
        wanted = list(names)
        found_now(wanted, environment)
        if values := {name: environment[name] for name in wanted if environment.get(name)}:
            self._write(job, values)

    def kept(self, job: str) -> dict[str, str]:
        """What is stored here for ``job``."""
        return self._read(job)

    def values(self, job: str, names: Iterable[str]) -> dict[str, str]:
        """The values for a run. Raises MissingSecret for one that is gone."""
        kept = self._read(job)
        found = {name: kept.get(name) or from_keyring(name) for name in names}
        if missing := sorted(name for name, value in found.items() if value is None):
            raise MissingSecret(
                f"No value for {', '.join(missing)}. Set it in this terminal and run `gpujob resume {job}`."
            )
        return {name: value for name, value in found.items() if value is not None}

    def forget(self, job: str) -> None:
        """Delete what was kept for ``job``."""
        self._path(job).unlink(missing_ok=True)

    def _path(self, job: str) -> Path:
        return self._folder / f"{job}.json"

    def _read(self, job: str) -> dict[str, str]:
        try:
            return dict(json.loads(self._path(job).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}

    def _write(self, job: str, values: Mapping[str, str]) -> None:
        draft = self._path(job).with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(values, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path(job))
