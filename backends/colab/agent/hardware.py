"""What this runtime really has, whatever was asked for: Colab may give another GPU, or none."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

MIB = 1 << 20
ANSWER_SECONDS = 30.0


def seen(place: Path) -> dict[str, Any]:
    """GPU, memory, disk below ``place`` and the rest. Sizes in bytes, free ones as of now."""
    gpus = _gpus()
    vram = min((int(row[1]) * MIB for row in gpus), default=0)
    return {
        "gpu": gpus[0][0] if gpus else None,
        "gpu_count": len(gpus),
        "vram_bytes": vram,
        "ram_bytes": ram_total(),
        "disk_bytes": shutil.disk_usage(place).free,
        "cpus": os.cpu_count() or 1,
        "python": platform.python_version(),
    }


def ram_total() -> int:
    """Bytes of RAM, or of the control groups around this process where they allow less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits()])


def _limits() -> list[int]:
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        if number == "0" or "memory" in names.split(","):
            top = "/sys/fs/cgroup" if number == "0" else "/sys/fs/cgroup/memory"
            name = "memory.max" if number == "0" else "memory.limit_in_bytes"
            for place in (path, *map(str, Path(path).parents)):
                try:
                    found.append(int(Path(top, place.lstrip("/"), name).read_text()))
                except (OSError, ValueError):  # not visible from in here, or "max"
                    continue
    return found


def _gpus() -> list[list[str]]:
    """Name and MiB of each GPU."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == 2 and row[1].isdecimal()] if done.returncode == 0 else []
