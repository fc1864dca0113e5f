"""AWS on this machine: moto's EC2 behind a proxy that adds what moto lacks, and a real guest for each instance."""

from __future__ import annotations

from tests.emulators.aws.emulator import AwsEmulator
from tests.emulators.aws.fleet import Box

__all__ = ["AwsEmulator", "Box"]
