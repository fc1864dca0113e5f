"""What a machine that was just obtained must have of GPUs, and when it is given back for what it lacks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from backends.base import Offer, SeenGpu
from backends.channels.local import LocalMachine
from orchestrator.lifecycle.inspecting import Lack, lack_among, lack_of
from orchestrator.lifecycle.patience import PatientMachine

MIB = 1 << 20
A100_40 = SeenGpu("NVIDIA A100-SXM4-40GB", 40960 * MIB)
A100_80 = SeenGpu("NVIDIA A100 80GB PCIe", 81920 * MIB)
T4 = SeenGpu("Tesla T4", 15360 * MIB)


def offer(gpu: str, vram_mib: int, count: int = 1) -> Offer:
    return Offer(
        backend="cloud", name="x", ram_bytes=1, disk_bytes=1, cpus=1, micros_per_hour=1, gpu=gpu, gpu_count=count,
        vram_bytes=vram_mib * MIB,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "paid_for"),
    [
        ([A100_40], offer("A100 40GB", 40960)),
        ([A100_80], offer("A100 80GB", 81920)),
        ([T4], offer("T4", 15360)),
        ([T4, T4], offer("T4", 15360)),
        ([SeenGpu("NVIDIA B9000", 1)], offer("T4", 15360)),
        ([T4], offer("a model of tomorrow", 15360)),
    ],
    ids=["by size", "by size too", "driver's name", "one more", "unknown to us", "offered by an unknown name"],
)
def test_what_is_paid_for_is_there(seen: list[SeenGpu], paid_for: Offer) -> None:
    assert lack_among(seen, paid_for) is None


def test_a_driver_is_waited_for() -> None:
    assert lack_among([], offer("T4", 15360)) == Lack("its driver shows no GPU; T4 is paid for", passing=True)
    some = lack_among([T4], offer("T4", 15360, 4))
    assert some == Lack("its driver shows 1 of its 4 GPUs; 4 x T4 is paid for", passing=True)


@pytest.mark.parametrize("seen", [A100_40, T4])
def test_another_gpu_is_not_waited_for(seen: SeenGpu) -> None:
    assert lack_among([seen], offer("A100 80GB", 81920)) == Lack(f"it has {seen.name}; A100 80GB is paid for")


def test_where_nobody_can_look_nothing_is_found_wrong(tmp_path: Path) -> None:
    machine = PatientMachine(LocalMachine(tmp_path), time.sleep)
    assert lack_of(machine, offer("T4", 15360)) is None
