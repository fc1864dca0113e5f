"""The machines behind the account's instances: real guests, what each of them costs, and how it ended."""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.aws.tables import InstanceType, regions, types
from tests.emulators.clock import Clock
from tests.emulators.guest.container import Container, Image, next_address, open_group
from tests.emulators.guest.vm import COMMAND, FILES

_HERE = Path(__file__).parent
IMAGE = {
    "/usr/local/bin/curl": (str(_HERE / "image_curl.sh"), 0o755),
    "/usr/local/bin/date": (str(_HERE / "image_date.sh"), 0o755),
}
GB = 10**9
HOURS = 672
"""Of a February, in which a volume costs most."""
NAMES = {"H100 SXM": "NVIDIA H100 80GB HBM3", "A100 40GB": "NVIDIA A100-SXM4-40GB"}
"""What nvidia-smi calls a model, where it is not our name for it."""
LEAST_SECONDS = 60
USER_SHUTDOWN, SELF_SHUTDOWN = "Client.UserInitiatedShutdown", "Client.InstanceInitiatedShutdown"
SPOT_TERMINATION = "Server.SpotInstanceTermination"


@dataclass(kw_only=True)
class Box:
    """One instance: what it was made from, where it can be reached, what it costs. Times by the emulator's clock."""

    id: str
    type: InstanceType
    zone: str
    tags: dict[str, str]
    spot: bool
    disk_gb: int
    user_data: str
    ends_with_shutdown: bool
    usd_h: float
    group: str
    launched_at: float
    address: tuple[str, int]
    container: Container | None = None
    ended_at: float | None = None
    reason: str = ""
    hidden_looks: int = 0
    """So often AWS still says that it knows no such instance."""

    def disk(self) -> Path:
        """Its root folder, as this machine sees it."""
        assert self.container
        return self.container.folder / "root"

    def control(self) -> Path:
        """What it sees as /run/guest."""
        assert self.container
        return self.container.folder / "control"

    def processes(self) -> list[int]:
        return self.container.processes() if self.container and not self.ended_at else []

    def cost_usd(self, now: float) -> float:
        """By the second, for a minute at least; its address and its volume as well."""
        region = regions()[self.zone[:-1]]
        held = max(LEAST_SECONDS, (self.ended_at or now) - self.launched_at)
        disk = region.disk_micros_per_gb_month / 1e6 * self.disk_gb / HOURS
        return (self.usd_h + region.address_micros_per_hour / 1e6 + disk) * held / 3600


class Fleet:
    """All instances there ever were, in order. ``on_power_off`` is told when a guest has ended by itself."""

    def __init__(self, clock: Clock, *, machines: bool, on_power_off: Callable[[Box], None]) -> None:
        self.clock = clock
        self.created: list[Box] = []
        self._machines = machines
        self._on_power_off = on_power_off
        self._folder = tempfile.TemporaryDirectory(prefix="gpujob-aws-", ignore_cleanup_errors=True)
        self._group = open_group(f"gpujob-aws-{secrets.token_hex(4)}") if machines else None
        self._lock = threading.Lock()

    def start(self, **what: Any) -> Box:
        """A new machine comes up."""
        box = Box(launched_at=self.clock.shown(), address=next_address(), **what)
        self.created.append(box)
        if self._machines:
            box.container = Container(
                _image(box), Path(self._folder.name, box.id), self._group, box.address,
                on_line=lambda _: None, on_exit=lambda status, kills: self._exited(box),
            )  # fmt: skip
        return box

    def of(self, id_: str) -> Box | None:
        return next((box for box in self.created if box.id == id_), None)

    def end(self, box: Box, reason: str) -> bool:
        """It costs no more, and its processes are gone; False where it had ended before."""
        with self._lock:
            if box.ended_at:
                return False
            box.ended_at, box.reason = self.clock.shown(), reason
        if box.container:
            box.container.kill()
        return True

    def _exited(self, box: Box) -> None:
        with self._lock:
            if box.ended_at:
                return
            box.ended_at, box.reason = self.clock.shown(), SELF_SHUTDOWN
        self._on_power_off(box)

    def close(self) -> None:
        for box in self.created:
            self.end(box, USER_SHUTDOWN)
            if box.container:
                box.container.remove()
        if self._group:
            self._group.remove()
        self._folder.cleanup()


def type_of(name: str) -> InstanceType:
    """A type that can be rented. Raises KeyError."""
    return types()[name]


def _image(box: Box) -> Image:
    gpu = box.type
    return Image(
        name=box.id,
        command=COMMAND,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root"},
        memory_bytes=gpu.ram_bytes,
        disk_bytes=None,
        gpus=[
            {
                "index": index, "name": NAMES.get(gpu.gpu, f"NVIDIA {gpu.gpu}"), "uuid": f"GPU-{box.id}-{index}",
                "memory.total": -(-gpu.vram_bytes // (1 << 20)), "compute_cap": str(gpu.compute_capability),
            }
            for index in range(gpu.gpu_count)
        ],
        has_gpu=True,
        files={**FILES, **IMAGE},
        told={"user-data": box.user_data},
    )  # fmt: skip
