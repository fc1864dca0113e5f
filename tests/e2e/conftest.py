"""Fixtures: a user with a fresh home, who leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from colab_kit import Colabber, colabber_in
from e2e_kit import Gpujob, user_in
from renter_kit import Renter, renter_in

from tests.emulators.drive import DriveEmulator
from tests.emulators.runpod import RunPodEmulator, why_no_guests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What rents waits for several machines in turn."""
    for item in items:
        if "renter" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Gpujob]:
    with user_in(tmp_path) as someone:
        yield someone


@pytest.fixture
def cloud() -> Iterator[RunPodEmulator]:
    """A cloud of the test's own, whose pods are real machines."""
    if reason := why_no_guests():
        pytest.skip(f"NOT TESTED: {reason}")
    with RunPodEmulator() as emulator:
        yield emulator


@pytest.fixture
def renter(tmp_path: Path, cloud: RunPodEmulator, record_property: Callable[[str, object], None]) -> Iterator[Renter]:
    with renter_in(tmp_path, cloud, record_property) as someone:
        yield someone


@pytest.fixture
def drive() -> Iterator[DriveEmulator]:
    with DriveEmulator() as emulator:
        yield emulator


@pytest.fixture
def colabber(tmp_path: Path, drive: DriveEmulator) -> Iterator[Colabber]:
    """A user with an emulated Drive, whose notebooks run in real kernels."""
    with colabber_in(tmp_path, drive) as someone:
        yield someone


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpujob]:
    """A user with three jobs behind them, for tests that only look: ``fine``, ``fallen`` (two attempts), ``broken``."""
    with user_in(tmp_path_factory.mktemp("settled")) as someone:
        someone.run("config", "set", "local.price_per_hour", "3.60")
        fine = someone.job("mkdir -p out; echo fine > out/a.txt; echo hello; echo oops >&2", LIMITS, name="fine")
        someone.submit(fine, "--yes")
        fallen = someone.job(
            "mkdir -p out; echo $HOW > out/how; [ $HOW = small ] || kill -9 $$", *FALLING, name="fallen"
        )
        someone.submit(fallen, "--yes")
        someone.submit(someone.job("echo last words; exit 7", LIMITS, name="broken"), "--yes", code=1)
        yield someone


LIMITS = "limits: {runtime: 60s}"
FALLING = (
    LIMITS,
    "env: {HOW: '{how}'}",
    "params: {how: big}",
    "variants: [{name: big}, {name: small, params: {how: small}, quality: 0.9}]",
)
