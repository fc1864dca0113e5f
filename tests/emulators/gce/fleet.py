"""The machines behind the project's instances: real guests, what each of them costs, and how it ended."""

from __future__ import annotations

import json
import secrets
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.gce.tables import MachineType, Region, machine_types, regions
from tests.emulators.clock import Clock
from tests.emulators.guest.container import Container, Image, next_address, open_group
from tests.emulators.guest.vm import COMMAND, FILES

IMAGE = {"/usr/local/bin/curl": (str(Path(__file__).with_name("image_curl.sh")), 0o755)}
HOURS = 672
"""Of a February, in which a disk costs most."""
NAMES = {
    "H100 SXM": "NVIDIA H100 80GB HBM3",
    "A100 40GB": "NVIDIA A100-SXM4-40GB",
    "A100 80GB SXM": "NVIDIA A100-SXM4-80GB",
}
"""What nvidia-smi calls a model, where it is not our name for it."""
LEAST_SECONDS = 60


@dataclass(kw_only=True)
class Box:
    """One instance: what it was made from, where it can be reached, what it costs. Times by the emulator's clock."""

    number: str
    zone: str
    order: dict[str, Any]
    """The body of `insert`."""
    made_at: float
    address: tuple[str, int]
    container: Container | None = None
    status: str = "RUNNING"
    stopped_at: float | None = None
    """When it ceased to run; its disk is charged for until ``gone_at``."""
    gone_at: float | None = None
    how: str = ""
    """How it ended: ``powered off``, ``deleted``, ``maxRunDuration`` or ``preempted``."""
    hidden_looks: int = 0
    """So often lists still leave it out."""
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return str(self.order["name"])

    @property
    def type(self) -> MachineType:
        name = self.order["machineType"].rpartition("/")[2]
        return machine_types()[name, self.zone.rpartition("-")[0]]

    @property
    def region(self) -> Region:
        return regions()[self.type.region]

    @property
    def spot(self) -> bool:
        return bool(self.order["scheduling"].get("provisioningModel") == "SPOT")

    @property
    def disk_gib(self) -> int:
        return int(self.order["disks"][0]["initializeParams"]["diskSizeGb"])

    @property
    def run_seconds(self) -> float:
        """After which Google deletes it."""
        return float(self.order["scheduling"].get("maxRunDuration", {}).get("seconds", "inf"))

    def metadata(self) -> dict[str, str]:
        return {item["key"]: item["value"] for item in self.order["metadata"]["items"]}

    def told(self) -> dict[str, Any]:
        """What gpujob has marked it with."""
        marks: dict[str, Any] = json.loads(self.metadata()["gpujob"])
        return marks

    def control(self) -> Path:
        """What it sees as /run/guest."""
        assert self.container
        return self.container.folder / "control"

    def processes(self) -> list[int]:
        return self.container.processes() if self.container and not self.stopped_at else []

    def cost_usd(self, now: float) -> float:
        """By the second, for a minute at least, with its address and local SSD; its disk as long as it is there."""
        ran = max(LEAST_SECONDS, (self.stopped_at or now) - self.made_at)
        kept = max(LEAST_SECONDS, (self.gone_at or now) - self.made_at)
        rate = self.type.spot_micros_per_hour if self.spot else self.type.micros_per_hour
        assert rate is not None, "it is not sold that way"
        local = self.region.local_ssd_micros_per_gb_month * self.type.local_ssd_gib / HOURS
        disk = self.region.disk_micros_per_gb_month * self.disk_gib / HOURS
        return ((rate + local + self.region.address_micros_per_hour) * ran + disk * kept) / 3600 / 1e6


class Fleet:
    """All instances there ever were, in order. ``on_power_off`` is told when a guest has ended by itself."""

    def __init__(self, clock: Clock, *, machines: bool, on_power_off: Callable[[Box], None]) -> None:
        self.created: list[Box] = []
        self._clock = clock
        self._machines = machines
        self._on_power_off = on_power_off
        self._folder = tempfile.TemporaryDirectory(prefix="gpujob-gce-", ignore_cleanup_errors=True)
        self._group = open_group(f"gpujob-gce-{secrets.token_hex(4)}") if machines else None

    def start(self, zone: str, order: dict[str, Any]) -> Box:
        """A new machine comes up."""
        box = Box(
            number=str(10**18 + secrets.randbelow(10**18)), zone=zone, order=order, made_at=self._clock.shown(),
            address=next_address(),
        )  # fmt: skip
        self.created.append(box)
        if self._machines:
            box.container = Container(
                _image(box), Path(self._folder.name, box.number), self._group, box.address,
                on_line=lambda _: None, on_exit=lambda status, kills: self._on_power_off(box),
            )  # fmt: skip
        return box

    def kill(self, box: Box) -> None:
        """Its processes are gone when this returns."""
        box.stopping.set()
        if box.container:
            box.container.kill()

    def close(self) -> None:
        for box in self.created:
            self.kill(box)
            if box.container:
                box.container.remove()
        if self._group:
            self._group.remove()
        self._folder.cleanup()


def _image(box: Box) -> Image:
    gpu = box.type
    return Image(
        name=box.name[:60],
        command=COMMAND,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root"},
        memory_bytes=gpu.ram_bytes,
        disk_bytes=None,
        gpus=[
            {
                "index": index, "name": NAMES.get(gpu.gpu, f"NVIDIA {gpu.gpu}"), "uuid": f"GPU-{box.number}-{index}",
                "memory.total": -(-gpu.vram_bytes // (1 << 20)), "compute_cap": str(gpu.compute_capability),
            }
            for index in range(gpu.gpu_count)
        ],
        has_gpu=True,
        files={**FILES, **IMAGE},
        told={"user-data": box.metadata()["startup-script"]},
    )  # fmt: skip
