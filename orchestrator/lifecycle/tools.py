"""What a worker has at hand: one set for all its jobs."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.clock import Clock
from orchestrator.config import Config
from orchestrator.home import Home
from orchestrator.lifecycle.registry import Backends
from orchestrator.lifecycle.vault import Vault
from orchestrator.records.store import Store


@dataclass(frozen=True, slots=True)
class Tools:
    """The journal, the home, the clock, the backends, the secrets, the settings."""

    store: Store
    home: Home
    clock: Clock
    backends: Backends
    vault: Vault

    @property
    def config(self) -> Config:
        """The settings as they are now."""
        return Config(self.home.config)
