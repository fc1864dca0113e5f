"""Compute Engine on this machine: compute v1 by its discovery document, and a real guest for each running instance."""

from __future__ import annotations

from tests.emulators.gce.emulator import GceEmulator
from tests.emulators.gce.fleet import Box

__all__ = ["Box", "GceEmulator"]
