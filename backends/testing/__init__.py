"""Conformance: what must hold of every backend, as checks that its author runs against an emulated provider.

Installed with gpujob, so that a plugin's author has it at hand; it loads nothing but ``backends.base`` and needs no
test framework. docs/writing-a-backend.md shows its use.
"""

from backends.testing.checks import CHECKS, Check
from backends.testing.provider import CannotMake, Provider

__all__ = ["CHECKS", "CannotMake", "Check", "Provider"]
