"""``job.json``: what the runner is told. Built by a pure function, so that it can be printed and tested."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from backends.base import Lease
from backends.runner import INPUTS_PATH, TRACING_PATH
from orchestrator.lifecycle.tenure import WIND_DOWN_SECONDS, Until
from orchestrator.records.tables import Attempt
from orchestrator.redaction import Redactor
from orchestrator.spec.model import JobSpec, ResolvedVariant

GRACE_SECONDS = 10.0
"""Between asking a program to end and killing it."""

STOP_SHARE = 12
"""That part of the wind-down is kept for the machine to end itself: 5 of 60 s."""

TRACE_FILE = "trace.json"
"""What the tracer is asked, beside it in the job directory."""

_PYTHON = '"$(command -v python || command -v python3)"'
PREFLIGHT = {"command": f"cd .. && exec {_PYTHON} -m {TRACING_PATH.name} preflight {TRACE_FILE}", "seconds": 180}
"""The job's own Python traces the model, in a time that costs next to nothing."""

INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "TERM", "LD_LIBRARY_PATH", "CONDA_PREFIX",
    "VIRTUAL_ENV", "HF_HOME", "NO_PROXY", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy",
    "REQUESTS_CA_BUNDLE",
)  # fmt: skip
INHERITED_PREFIXES = ("LC_", "PIP_", "UV_", "SSL_CERT", "CUDA_", "NVIDIA_", "XDG_")
"""What a local job gets of this machine's environment; everything else must be in the spec, as on a rented one."""


def kept_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What a job that runs on this machine gets of the submitting terminal: ``values``, and names ``withheld`` because
    their values hold credentials (an index or proxy address with a password); the worker's own serve for those.
    """
    inherited = {
        name: value for name, value in environment.items() if name in INHERITED or name.startswith(INHERITED_PREFIXES)
    }
    redact = Redactor()
    withheld = sorted(name for name, value in inherited.items() if redact(value) != value)
    return {"values": {n: v for n, v in inherited.items() if n not in withheld}, "withheld": withheld}


def build_jobfile(
    spec: JobSpec,
    variant: ResolvedVariant,
    attempt: Attempt,
    lease: Lease,
    base_env: Mapping[str, str] | None,
    setup: Mapping[str, Any] | None,
    until: Until | None = None,
    linger: float = 1800.0,
    *,
    preflight: bool = False,
    keep_every: float = 300.0,
) -> dict[str, Any]:
    """The contents of ``job.json`` for one attempt (docs/runner.md). Secrets by name only.

    ``until`` says how long a rented machine may still be held, ``linger`` the seconds that results wait there at most,
    ``keep_every`` how often one that may vanish brings results and checkpoints away.
    """
    return {
        "version": 1,
        "key": attempt.key,
        "run": variant.run,
        "env": {**_visible_gpus(lease, variant), **variant.env},
        "secret_names": list(spec.secrets),
        "base_env": None if base_env is None else dict(base_env),
        "inputs": _inputs_command(lease) if spec.inputs else None,
        "setup": dict(setup) if setup else None,
        "preflight": PREFLIGHT if preflight else None,
        "limits": _limits(attempt, spec, lease, until),
        "memory": {
            "cap_bytes": attempt.ram_cap_bytes,
            "means": ["cgroup2", "cgroup1", "systemd", "watch"],
        },
        "gpus": _gpus(lease, variant),
        "grace": GRACE_SECONDS,
        "sample_every": 0.25,
        "machine": _machine(lease, until, linger) if until else None,
        "keep": {"paths": [*spec.results, *spec.checkpoints], "every": keep_every} if until else None,
    }


def _limits(attempt: Attempt, spec: JobSpec, lease: Lease, until: Until | None) -> dict[str, Any]:
    """When the runner ends the run."""
    return {
        "runtime": spec.limits.runtime,
        "lease": _lease_seconds(attempt, until),
        "lease_began_monotonic": lease.details.get("lease_began"),
        "lease_ends_utc": until.ends_at.timestamp() - until.wind_down if until else None,
        "idle": spec.limits.idle,
        "log_bytes": spec.limits.log_size,
        "cpu_idle_percent": 5,
        "gpu_idle_percent": 5,
    }


def _machine(lease: Lease, until: Until, linger: float) -> dict[str, Any] | None:
    """How and when a rented machine ends itself; None where it has no means to."""
    stop, pid1 = list(lease.details.get("stop", [])), lease.details.get("stop_pid1")
    if not (stop or pid1):
        return None
    kept = until.wind_down / STOP_SHARE
    return {
        "stop": stop,
        "stop_pid1": pid1,
        "linger": linger,
        "ends_utc": until.ends_at.timestamp() - kept,
        "lease": max(0.0, until.seconds - kept),
    }


def _lease_seconds(attempt: Attempt, until: Until | None) -> float:
    """When the run must end so that everything after it is still within the reservation."""
    if until:
        return max(0.0, until.seconds - until.wind_down)
    if attempt.micros_per_hour == 0:
        return attempt.allowed_seconds
    return max(attempt.allowed_seconds - WIND_DOWN_SECONDS, attempt.allowed_seconds / 2)


def input_list(spec: JobSpec, lease: Lease) -> dict[str, Any]:
    """``inputs.json``: what is fetched on the machine before the run, and where copies are kept for the next one."""
    return {
        "cache": lease.details.get("input_cache"),
        "inputs": [
            {
                "sources": [entry.source, *entry.alternatives],
                "dest": entry.dest,
                "sha256": entry.sha256,
                "max_size": entry.max_size,
            }
            for entry in spec.inputs
        ],
    }


def _gpus(lease: Lease, variant: ResolvedVariant) -> list[int]:
    """The GPUs of the machine that are the job's: as many as it asks for, though all of a rented one are paid for.

    A program that finds more than it was planned with uses them, and takes another amount of memory for it.
    """
    gpus = list(lease.details.get("gpus", []))
    return gpus[: variant.need.gpu.count] if variant.need.gpu else gpus


def _visible_gpus(lease: Lease, variant: ResolvedVariant) -> dict[str, str]:
    """On this machine a job sees the GPUs that it holds, and a CPU job none; elsewhere all, unless that is too many."""
    gpus = _gpus(lease, variant)
    if not lease.details.get("own_machine") and len(gpus) == len(lease.details.get("gpus", [])):
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}


def _inputs_command(lease: Lease) -> str:
    """Run in the work folder, beside which the program and its list lie."""
    return f"{shlex.quote(str(lease.details.get('python', 'python3')))} ../{INPUTS_PATH.name} ../inputs.json ."
