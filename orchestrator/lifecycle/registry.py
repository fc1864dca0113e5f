"""Finding backends: the entry points ``gpujob.backends``, each opened only when it is needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from threading import Lock
from typing import cast

from backends.base import Backend, Rejected
from orchestrator.config import Config
from orchestrator.credentials import Credentials
from orchestrator.home import Home
from orchestrator.lifecycle.patience import PatientBackend


@cache
def _installed() -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="gpujob.backends")}


def backend_names() -> list[str]:
    """The names of all installed backends, ``local`` first."""
    return sorted(_installed(), key=lambda name: (name != "local", name))


class Backends:
    """The backends of one home, opened once each, and again when the settings change."""

    def __init__(self, home: Home, config: Config, sleep: Callable[[float], None] = time.sleep) -> None:
        self._home = home
        self._config = config
        self._sleep = sleep
        self._open: dict[str, PatientBackend] = {}
        self._lock = Lock()

    def get(self, name: str) -> PatientBackend:
        """The backend called ``name``. Raises Rejected with the names there are, or the extra that is missing."""
        with self._lock:
            if self._config.reload():
                self._open.clear()
            if name not in self._open:
                self._open[name] = PatientBackend(self._load(name), self._sleep)
            return self._open[name]

    def some(self, names: Iterable[str]) -> list[PatientBackend]:
        """The named backends, or all of them if none is named."""
        return [self.get(name) for name in (list(names) or backend_names())]

    def _load(self, name: str) -> Backend:
        entry = _installed().get(name)
        if entry is None:
            raise Rejected(f"there is no backend {name!r}", advice=f"Installed are: {', '.join(backend_names())}.")
        try:
            opener = entry.load()
        except ModuleNotFoundError as error:
            raise Rejected(
                f"the backend {name!r} needs the Python package {error.name!r}",
                advice=f"Install it: pip install 'gpujob[{name}]'",
            ) from error
        root = self._home.local if name == "local" else self._home.root / name
        settings = {**self._config.for_backend(name), "credential": Credentials(self._home).find}
        return cast("Backend", opener(root, settings))
