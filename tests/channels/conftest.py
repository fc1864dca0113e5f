"""Fixtures: an SSH server of our own, and the machines that are reached through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.channels.ssh import SshMachine
from backends.channels.ssh_connection import hang_up
from backends.channels.ssh_keys import HostKeys, Identity, identity
from tests.emulators.sshd import SSHD, Sshd, running_sshd
from tests.runner.runner_kit import Job, jobs_that_leave_nothing


@pytest.fixture
def make_job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    with jobs_that_leave_nothing(tmp_path) as make:
        yield make


@pytest.fixture(scope="session")
def shared_identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="session")
def shared_sshd(tmp_path_factory: pytest.TempPathFactory, shared_identity: Identity) -> Iterator[Sshd]:
    """One server for all tests that do nothing to it."""
    if SSHD is None:
        pytest.skip("NOT TESTED: SSH needs a server here (apt-get install openssh-server)")
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        server.allow(shared_identity.public)
        yield server


@pytest.fixture
def sshd(tmp_path: Path, shared_identity: Identity) -> Iterator[Sshd]:
    """A server for one test."""
    if SSHD is None:
        pytest.skip("NOT TESTED: SSH needs a server here (apt-get install openssh-server)")
    with running_sshd(tmp_path / "sshd") as server:
        server.allow(shared_identity.public)
        yield server


@pytest.fixture
def host_keys(tmp_path: Path) -> HostKeys:
    return HostKeys(tmp_path / "host_keys.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def over_ssh(
    shared_sshd: Sshd, shared_identity: Identity, host_keys: HostKeys, root: Path, tmp_path: Path
) -> Iterator[Callable[..., SshMachine]]:
    """Makes machines at the shared server, with their place for jobs in ``root``."""
    pin = f"pin-{tmp_path}"
    yield lambda **given: SshMachine(shared_sshd.address, shared_identity, host_keys, pin, str(root), **given)
    hang_up(pin)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "data" / "deep").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "train.sh").write_text("#!/bin/sh\n")
    (top / "train.sh").chmod(0o755)
    (top / "data" / "deep" / "a b;'\"\n--x").write_bytes(b"x" * 3000)
    (top / "link").symlink_to("data/deep")
    return top


@pytest.fixture
def job(make_job: Callable[..., Job]) -> Job:
    return make_job()
