"""``gpujob doctor``: what this machine has, who holds it, how memory can be capped, and which jobs would fit."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

from backends.hardware import SPILLS, available_ram, find_gpus, gpu_processes, spills_to_ram, total_ram
from backends.units import format_size
from orchestrator.cli.screen import bold, dim, good, plain, table, warned
from orchestrator.home import Home
from orchestrator.lifecycle.waking import worker_runs


def examine(home: Home) -> dict[str, Any]:
    """The findings, in the stable form of ``--json``."""
    from backends.runner.runner import best_means

    home.ensure()
    disk = shutil.disk_usage(home.root)
    gpus = find_gpus()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "home": str(home.root),
        "worker_running": worker_runs(home),
        "ram": {"total_bytes": total_ram(), "available_bytes": available_ram()},
        "disk": {"total_bytes": disk.total, "free_bytes": disk.free},
        "gpus": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "vram_bytes": gpu.vram_bytes,
                "vram_used_bytes": gpu.vram_used_bytes,
                "compute_capability": gpu.compute_capability,
            }
            for gpu in gpus
        ],
        "gpu_processes": [{"pid": p.pid, "name": p.name, "vram_bytes": p.vram_bytes} for p in gpu_processes()],
        "memory_cap": best_means(),
        "problems": _problems(disk.free, on_gpu=bool(gpus)),
    }


def doctor_text(found: dict[str, Any], fits: list[dict[str, Any]]) -> str:
    """The findings for a person."""
    ram, disk = found["ram"], found["disk"]
    free = f", {format_size(ram['available_bytes'])} available" if ram["available_bytes"] else ""
    lines = [
        f"{bold('This machine')}  {found['system']}, Python {found['python']}",
        f"  RAM     {format_size(ram['total_bytes'])}{free}",
        f"  disk    {format_size(disk['free_bytes'])} free of {format_size(disk['total_bytes'])} at {found['home']}",
        *_gpu_lines(found),
        f"  memory cap  {_cap_text(found['memory_cap'])}",
        f"  worker  {'running' if found['worker_running'] else 'not running (submit starts one)'}",
        *(f"  {warned('!')} {problem}" for problem in found["problems"]),
    ]
    if fits:
        rows = [(fit["spec"], fit["answer"]) for fit in fits]
        lines += ["", bold("Which jobs would run here"), table(("spec", "answer"), rows, indent=2, whole=True)]
    return "\n".join(lines)


def specs_near(folder: Path) -> list[Path]:
    """Job specs in ``folder`` and in ``jobs/`` below it."""
    candidates = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("jobs/*/*.yaml"))]
    return [path for path in candidates if path.is_file()][:20]


def _gpu_lines(found: dict[str, Any]) -> list[str]:
    if not found["gpus"]:
        return [f"  GPU     none seen{'' if shutil.which('nvidia-smi') else ' (nvidia-smi is not on PATH)'}"]
    lines = [
        f"  GPU {gpu['index']}   {plain(gpu['name'])}, {format_size(gpu['vram_bytes'])} of VRAM, "
        f"{format_size(gpu['vram_used_bytes'])} in use"
        for gpu in found["gpus"]
    ]
    holders = (f"          {format_size(p['vram_bytes'])} held by {plain(p['name'])} (pid {p['pid']})"
               for p in found["gpu_processes"])  # fmt: skip
    return [*lines, *map(dim, holders)]


def _cap_text(means: str) -> str:
    words = {
        "cgroup2": "by the kernel (cgroup v2)",
        "cgroup1": "by the kernel (cgroup v1)",
        "systemd": "by the kernel (systemd-run --user)",
        "watch": "by the runner's own watch, which kills what passes the cap",
    }
    return words[means] if means == "watch" else good(words[means])


def _problems(free: int, *, on_gpu: bool) -> list[str]:
    problems = []
    if free < 2_000_000_000:
        problems.append(f"only {format_size(free)} of disk are free; an environment with PyTorch needs about 6 GB")
    if on_gpu and spills_to_ram():
        problems.append(SPILLS)
    return problems
