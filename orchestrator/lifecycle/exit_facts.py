"""What is known about an ended attempt: the runner's record, the ends of its logs, and what we did to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from backends.base import RunPhase
from orchestrator.lifecycle.last_words import tail

UnexplainedSigkill: TypeAlias = Literal["treat_as_oom", "fail"]

_WRAPPED_EXITS = {256 - signal: signal for signal in (6, 7, 9, 11, 15)}
"""Launchers that end with ``sys.exit(-9)`` leave 247."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitFacts:
    """All that is known about an ended attempt. Sizes in bytes; None means unknown."""

    phase: RunPhase
    failed_phase: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    stopped_by: str | None = None
    stop_reason: str | None = None
    memory_cap_bytes: int | None = None
    memory_cap_means: str | None = None
    oom_kills_in_cap: int | None = None
    oom_kills_on_machine: int | None = None
    ram_bytes: int | None = None
    peak_ram_bytes: int | None = None
    ram_total_bytes: int | None = None
    vram_bytes: int | None = None
    peak_vram_bytes: int | None = None
    vram_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    shm_free_bytes: int | None = None
    preflight_vram_bytes: int | None = None
    run_seconds: float | None = None
    stdout_tail: str = ""
    stderr_tail: str = ""
    cancelled: bool = False
    budget_stop: bool = False
    preempted: bool = False
    unreachable: bool = False
    machine_gone: bool = False
    unexplained_sigkill: UnexplainedSigkill = "treat_as_oom"

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any],
        *,
        phase: RunPhase,
        stdout_tail: str = "",
        stderr_tail: str = "",
        cancelled: bool = False,
        budget_stop: bool = False,
        preempted: bool = False,
        unreachable: bool = False,
        machine_gone: bool = False,
        unexplained_sigkill: UnexplainedSigkill = "treat_as_oom",
    ) -> ExitFacts:
        """Facts from the runner's status record; a field that is missing or makes no sense is unknown."""
        fields: dict[str, Any] = {
            **{name: _whole(record.get(name)) for name in ("exit_code", "signal")},
            **{name: _count(record.get(name)) for name in _COUNTS},
            **{name: _text(record.get(name)) for name in _TEXTS},
        }
        return cls(
            phase=phase, run_seconds=_seconds(record.get("run_seconds")), stdout_tail=tail(stdout_tail),
            stderr_tail=tail(stderr_tail), cancelled=cancelled, budget_stop=budget_stop, preempted=preempted,
            unreachable=unreachable, machine_gone=machine_gone, unexplained_sigkill=unexplained_sigkill,
            **fields,
        )  # fmt: skip

    @property
    def ended(self) -> bool:
        """Whether the runner left its exit record."""
        return self.phase is RunPhase.ENDED

    @property
    def ram_limit_bytes(self) -> int | None:
        """The RAM that the run could have: its cap, or the machine's RAM where that is less."""
        return min((size for size in (self.memory_cap_bytes, self.ram_total_bytes) if size), default=None)

    @property
    def death_signal(self) -> int | None:
        """The signal that ended the command, also where a shell (137) or a launcher (247) reports it."""
        if self.signal:
            return abs(self.signal)
        code = self.exit_code or 0
        if code < 0:
            return -code
        return code - 128 if 128 < code < 160 else _WRAPPED_EXITS.get(code)


_COUNTS = (
    "memory_cap_bytes", "oom_kills_in_cap", "oom_kills_on_machine", "ram_bytes", "peak_ram_bytes",
    "ram_total_bytes", "vram_bytes", "peak_vram_bytes", "vram_total_bytes", "disk_free_bytes", "shm_free_bytes",
    "preflight_vram_bytes",
)  # fmt: skip
_TEXTS = ("failed_phase", "stopped_by", "stop_reason", "memory_cap_means")


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _count(value: object) -> int | None:
    number = _whole(value)
    return number if number is not None and 0 <= number < 2**63 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
