"""``job.json``: what the runner is told. Built by a pure function, so that it can be printed and tested."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.base import Lease
from orchestrator.records.tables import Attempt
from orchestrator.spec.model import JobSpec, ResolvedVariant

GRACE_SECONDS = 10.0
"""Between asking a program to end and killing it."""

INHERITED = (
    "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "TERM", "LD_LIBRARY_PATH", "CONDA_PREFIX",
    "VIRTUAL_ENV", "HF_HOME", "NO_PROXY", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy",
    "REQUESTS_CA_BUNDLE",
)  # fmt: skip
INHERITED_PREFIXES = ("LC_", "PIP_", "UV_", "SSL_CERT", "CUDA_", "NVIDIA_", "XDG_")
"""What a local job gets of this machine's environment; everything else must be in the spec, as on a rented one."""


def local_environment(environment: Mapping[str, str], path: str) -> dict[str, str]:
    """The starting environment of a job on this machine, with the submitting terminal's PATH."""
    kept = {
        name: value for name, value in environment.items() if name in INHERITED or name.startswith(INHERITED_PREFIXES)
    }
    return {**kept, "PATH": path}


def build_jobfile(
    spec: JobSpec,
    variant: ResolvedVariant,
    attempt: Attempt,
    lease: Lease,
    base_env: Mapping[str, str],
    setup: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The contents of ``job.json`` for one attempt (docs/runner.md). Secrets by name only."""
    return {
        "version": 1,
        "key": attempt.key,
        "run": variant.run,
        "env": dict(variant.env),
        "secret_names": list(spec.secrets),
        "base_env": dict(base_env),
        "setup": dict(setup) if setup else None,
        "limits": {
            "runtime": spec.limits.runtime,
            "lease": attempt.allowed_seconds,
            "lease_began_monotonic": lease.details.get("lease_began"),
            "lease_ends_utc": None,
            "idle": spec.limits.idle,
            "log_bytes": spec.limits.log_size,
            "cpu_idle_percent": 5,
            "gpu_idle_percent": 5,
        },
        "memory": {
            "cap_bytes": attempt.ram_cap_bytes,
            "means": ["cgroup2", "cgroup1", "systemd", "watch"],
        },
        "gpus": list(lease.details.get("gpus", [])),
        "grace": GRACE_SECONDS,
        "sample_every": 0.25,
    }


def setup_digest(command: str, source: Path, python: str) -> str:
    """What an environment depends on: the command, the interpreter, and every file of the job that it names."""
    digest = hashlib.sha256(f"{python}\0{command}".encode())
    for word in sorted(set(command.split())):
        path = source / word.strip("'\"")
        if path.is_file():
            digest.update(word.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:24]
