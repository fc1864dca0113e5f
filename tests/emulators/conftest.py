"""Emulators for tests, with and without machines; each must leave nothing behind."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.runpod import RunPodEmulator, why_no_memory_limit, why_no_pods
from tests.emulators.runpod_kit import Client, Ssh


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``needs("pods")``, ``"memory limit"``, ``"runpod"``: skipped, loudly, where this machine lacks it."""
    reasons = {"pods": why_no_pods, "memory limit": why_no_memory_limit, "runpod": why_no_package}
    for mark in item.iter_markers("needs"):
        if (reason := reasons.get(mark.args[0])) and (lack := reason()):
            pytest.skip(f"NOT TESTED: {lack}")


def why_no_package() -> str | None:
    found = importlib.util.find_spec("runpod")
    return None if found else "the runpod package is not installed (pip install runpod)"


@pytest.fixture
def start() -> Iterator[Callable[..., RunPodEmulator]]:
    """Starts emulators with given settings; closes them."""
    started: list[RunPodEmulator] = []

    def run(**settings: Any) -> RunPodEmulator:
        started.append(RunPodEmulator(**settings))
        return started[-1]

    yield run
    for cloud in started:
        cloud.close()
        assert not cloud.pods()


@pytest.fixture
def paper(start: Callable[..., RunPodEmulator]) -> RunPodEmulator:
    """An emulator whose pods have no processes: the API alone."""
    return start(machines=False)


@pytest.fixture
def cloud(start: Callable[..., RunPodEmulator]) -> RunPodEmulator:
    """An emulator whose pods are machines."""
    return start()


@pytest.fixture
def ssh(tmp_path: Path) -> Ssh:
    return Ssh(tmp_path)


@pytest.fixture
def api(paper: RunPodEmulator) -> Client:
    """A client with the account's key for ``paper``."""
    return Client(paper)
