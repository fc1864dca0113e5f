"""What this machine has: RAM, GPUs and who holds them, and a clock that nobody can set."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_NVIDIA_SMI_SECONDS = 10.0
MIB = 1 << 20

DRIVER_BYTES = 200_000_000
"""VRAM that the driver keeps for itself and shows as free."""


SPILLS = (
    "Windows' driver moves what does not fit into VRAM to RAM: a job then crawls instead of running out of memory; "
    'set "CUDA - Sysmem Fallback Policy" to "Prefer No Sysmem Fallback" in the NVIDIA Control Panel'
)
"""What ``spills_to_ram`` means, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU. ``vram_bytes`` is what the driver reports, which is less than the name promises."""

    index: int
    name: str
    vram_bytes: int
    vram_used_bytes: int
    compute_capability: float | None

    @property
    def usable_bytes(self) -> int:
        """What a program could take now: the display and other programs were there before it."""
        return max(self.vram_bytes - self.vram_used_bytes - DRIVER_BYTES, 0)


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds VRAM."""

    pid: int
    name: str
    vram_bytes: int


def total_ram() -> int:
    """Bytes of RAM, or of the container's memory limit where that is smaller."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_container_limits()])


def _container_limits() -> list[int]:
    """The cgroup limits on this process, v2 and v1; empty where there is none or it says ``max``."""
    limits = []
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / name
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return limits


def available_ram() -> int | None:
    """Bytes that programs could take now without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def find_gpus() -> list[Gpu]:
    """The NVIDIA GPUs that ``nvidia-smi`` lists; none without it."""
    query = "--query-gpu=index,name,memory.total,memory.used"
    # A driver that is too old to know compute_cap refuses the whole question.
    rows = _nvidia_smi(f"{query},compute_cap") or [[*row, ""] for row in _nvidia_smi(query)]
    return [
        # A GPU without memory of its own says [N/A]: it uses the machine's.
        Gpu(int(index), name, _bytes(total, total_ram()), _bytes(used, 0), _number(capability))
        for index, name, total, used, capability in (row for row in rows if len(row) == 5)
    ]


def spills_to_ram() -> bool:
    """Whether the GPU's driver is that of Windows, as under WSL.

    By default it moves what does not fit into VRAM to the computer's RAM: a job then crawls where it should fail.
    """
    return "microsoft" in platform.release().lower()


def gpu_processes() -> list[GpuProcess]:
    """Who holds VRAM now."""
    rows = _nvidia_smi("--query-compute-apps=pid,process_name,used_memory")
    return [
        GpuProcess(int(pid), name, int(value * MIB) if (value := _number(used)) is not None else 0)
        for pid, name, used in (row for row in rows if len(row) == 3)
    ]


def _nvidia_smi(query: str) -> list[list[str]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def _bytes(mib: str, otherwise: int) -> int:
    number = _number(mib)
    return otherwise if number is None else int(number) * MIB


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@cache
def boot_id() -> str:
    """Which start of this machine this is."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        done = subprocess.run(["sysctl", "-n", "kern.boottime"], capture_output=True, text=True, check=False)
        return done.stdout.strip() or "unknown"


def boot_clock() -> float:
    """Seconds of this boot's monotonic clock: the same in every process, moved by nobody."""
    return time.monotonic()
