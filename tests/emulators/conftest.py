"""Emulators for tests, with and without machines; each must leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.runpod import RunPodEmulator
from tests.emulators.runpod_kit import Client, Ssh


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


@pytest.fixture
def account(cloud: RunPodEmulator) -> Client:
    """A client with the account's key for ``cloud``."""
    return Client(cloud)


@pytest.fixture
def pod(account: Client, ssh: Ssh) -> dict[str, Any]:
    """A pod of ``cloud`` that can be logged in to."""
    made = account.running(env={"PUBLIC_KEY": ssh.public, "MODEL": "a b"})
    ssh.reachable(made)
    return made
