"""Fixtures: RunPod on this machine, and our backend in front of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.runpod import open_backend
from backends.runpod.backend import RunpodBackend
from backends.runpod.settings import API_VARIABLE, KEY_NAME
from tests.emulators.runpod import RunPodEmulator, why_no_guests

Opener = Callable[..., RunpodBackend]


@pytest.fixture(autouse=True)
def no_account_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens, nothing here speaks to RunPod itself."""
    monkeypatch.setenv(API_VARIABLE, "http://127.0.0.1:9")
    monkeypatch.delenv(KEY_NAME, raising=False)


@pytest.fixture
def cloud() -> Iterator[RunPodEmulator]:
    """RunPod whose pods are records only: for the API alone, on any system."""
    with RunPodEmulator(machines=False) as emulator:
        yield emulator


@pytest.fixture
def machines() -> Iterator[RunPodEmulator]:
    """RunPod whose pods are real machines."""
    if reason := why_no_guests():
        pytest.skip(f"NOT TESTED: {reason}")
    with RunPodEmulator(memory_scale=0.02) as emulator:
        yield emulator


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Opens the backend of a home, by default the same one each time, in front of an emulator."""

    def open_one(
        emulator: RunPodEmulator, home: str = "home", key: str | None = None, **settings: Any
    ) -> RunpodBackend:
        monkeypatch.setenv(API_VARIABLE, emulator.url)
        return open_backend(tmp_path / home, {"credential": lambda _: key or emulator.key, **settings})

    return open_one
