"""What a worker has at hand: one set for all its jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.clock import Clock
from orchestrator.config import Config, ConfigError, default_of
from orchestrator.home import Home
from orchestrator.lifecycle.registry import Backends
from orchestrator.lifecycle.vault import Vault
from orchestrator.records.store import Store


@dataclass(frozen=True, slots=True)
class Tools:
    """The journal, the home, the clock, the backends, the secrets."""

    store: Store
    home: Home
    clock: Clock
    backends: Backends
    vault: Vault

    def setting(self, name: str) -> Any:
        """A setting as it is now; its default where the file is not understood: a slip must not end what is rented."""
        try:
            return Config(self.home.config).get(name)
        except ConfigError:
            return default_of(name)
