"""What ``nvidia-smi`` says, in the forms that drivers have been seen to say it in."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.hardware import DRIVER_BYTES, MIB, Gpu, find_gpus, total_ram

KNOWN = "index,name,memory.total,memory.used"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a program of that name; nothing is there yet."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "nvidia-smi"


def says(program: Path, lines: str, *, knows: str = f"{KNOWN},compute_cap") -> None:
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = "--query-gpu={knows}" ]; then printf "{lines}"; exit 0; fi\n'
        'echo "Field is not a valid field to query."; exit 2\n'
    )
    program.chmod(0o755)


def test_gpus_as_they_are_listed(nvidia_smi: Path) -> None:
    says(nvidia_smi, "0, Tesla T4, 15360, 3, 7.5\\n1, NVIDIA L4, 23034, 0, 8.9\\n")
    assert find_gpus() == [
        Gpu(0, "Tesla T4", 15360 * MIB, 3 * MIB, 7.5),
        Gpu(1, "NVIDIA L4", 23034 * MIB, 0, 8.9),
    ]


def test_an_old_driver_knows_no_compute_capability(nvidia_smi: Path) -> None:
    says(nvidia_smi, "0, Tesla K80, 11441, 0\\n", knows=KNOWN)
    assert find_gpus() == [Gpu(0, "Tesla K80", 11441 * MIB, 0, None)]


def test_a_gpu_that_shares_the_machines_memory(nvidia_smi: Path) -> None:
    says(nvidia_smi, "0, NVIDIA GB10, [N/A], [N/A], 12.1\\n")
    assert find_gpus() == [Gpu(0, "NVIDIA GB10", total_ram(), 0, 12.1)]


def test_a_driver_that_does_not_answer(nvidia_smi: Path) -> None:
    says(nvidia_smi, "", knows="nothing")
    assert find_gpus() == []


def test_what_a_gpu_has_left_is_less_than_what_nobody_uses(nvidia_smi: Path) -> None:
    says(nvidia_smi, "0, NVIDIA GeForce RTX 3060, 12288, 900, 8.6\\n1, NVIDIA L4, 100, 100, 8.9\\n")
    assert [gpu.usable_bytes for gpu in find_gpus()] == [(12288 - 900) * MIB - DRIVER_BYTES, 0]
