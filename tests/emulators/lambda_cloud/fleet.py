"""The account: machines with their lives and meters, SSH keys."""

from __future__ import annotations

import math
import secrets
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.runner import runner
from tests.emulators.clock import Clock
from tests.emulators.guest.container import SSHD_PORT, Container, Image, next_address, open_group
from tests.emulators.guest.vm import COMMAND, FILES
from tests.emulators.lambda_cloud.faults import Faults

GIB = 1 << 30
TYPES: dict[str, dict[str, Any]] = {
    "gpu_1x_a10": {"gpu": "A10 (24 GB PCIe)", "gpus": 1, "vcpus": 30, "gib": 200, "cents": 86, "mib": 23028, "cc": 8.6},
    "gpu_1x_a100_sxm4": {
        "gpu": "A100 (40 GB SXM4)", "gpus": 1, "vcpus": 30, "gib": 200, "cents": 148, "mib": 40960, "cc": 8.0
    },
}  # fmt: skip
DISK_GIB = 512
REGIONS = ("us-east-1", "us-west-1")


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str, message: str = "", suggestion: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.document = {"error": {"code": code, "message": message or code, "suggestion": suggestion}}


@dataclass
class Instance:
    """A machine, and its meter: it counts from the launch to the termination, whatever the machine does."""

    id: str
    order: dict[str, Any]
    cents: int
    began: float
    listed_from: float
    status: str = "booting"
    ended: float | None = None
    address: tuple[str, int] = ("", SSHD_PORT)
    container: Container | None = None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def type(self) -> dict[str, Any]:
        return TYPES[self.order["instance_type_name"]]

    def micros(self, now: float) -> int:
        """What it has cost, in micro-dollars: begun minutes whole."""
        minutes = math.ceil(((self.ended if self.ended is not None else now) - self.began) / 60)
        return math.ceil(minutes * self.cents * 10_000 / 60)

    def document(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "id": self.id, "name": self.order.get("name"), "status": self.status,
            "ip": self.address[0] or None, "region": {"name": self.order["region_name"], "description": "somewhere"},
            "ssh_key_names": self.order["ssh_key_names"], "file_system_names": [],
            "tags": self.order.get("tags", []),
            "instance_type": type_document(self.order["instance_type_name"], self.cents),
        }  # fmt: skip


def type_document(name: str, cents: int | None = None) -> dict[str, Any]:
    """A type of machine as the API shows it."""
    kind = TYPES[name]
    return {
        "name": name, "description": kind["gpu"], "gpu_description": kind["gpu"],
        "price_cents_per_hour": kind["cents"] if cents is None else cents,
        "specs": {"vcpus": kind["vcpus"], "memory_gib": kind["gib"], "storage_gib": DISK_GIB, "gpus": kind["gpus"]},
    }  # fmt: skip


class Fleet:
    """All of the account. ``created`` holds every machine there ever was, in order."""

    def __init__(self, clock: Clock, faults: Faults, *, machines: bool, memory_scale: float) -> None:
        self.clock = clock
        self.faults = faults
        self.created: list[Instance] = []
        self.keys: dict[str, dict[str, str]] = {}
        self.free: dict[str, list[str]] = {name: list(REGIONS) for name in TYPES}
        self.lock = threading.RLock()
        self._machines = machines
        self._memory_scale = memory_scale
        self._folder = tempfile.TemporaryDirectory(prefix="gpujob-lambda-", ignore_cleanup_errors=True)
        self._group: runner.Cgroup | None = open_group(f"gpujob-lambda-{secrets.token_hex(4)}") if machines else None

    def instances(self) -> list[Instance]:
        """Those that cost something."""
        return [each for each in self.created if each.ended is None]

    def listed(self) -> list[Instance]:
        """Those that a list shows by now."""
        return [each for each in self.instances() if each.listed_from <= time.monotonic()]

    def get(self, id_: str) -> Instance:
        """Any machine. Raises Refused."""
        for each in self.created:
            if each.id == id_:
                return each
        raise Refused(404, "global/object-does-not-exist", "Specified instance does not exist.")

    def launch(self, order: dict[str, Any]) -> Instance:
        """Rent a machine; it comes up by itself."""
        with self.lock:
            if order["region_name"] not in self.free[order["instance_type_name"]] or self.faults.take(
                "no capacity", region=order["region_name"]
            ):
                raise Refused(400, "instance-operations/launch/insufficient-capacity", "Not enough capacity.")
            if any(name not in {key["name"] for key in self.keys.values()} for name in order["ssh_key_names"]):
                raise Refused(404, "global/object-does-not-exist", "SSH key", "Add it first.")
            stale, dearer = self.faults.take("stale list"), self.faults.take("dearer")
            instance = Instance(
                id=secrets.token_hex(16),
                order=order,
                cents=TYPES[order["instance_type_name"]]["cents"] + (dearer["cents"] if dearer else 0),
                began=self.clock.now(),
                listed_from=time.monotonic() + stale["seconds"] if stale else 0.0,
                tags={tag["key"]: tag["value"] for tag in order.get("tags", [])},
            )
            self.created.append(instance)
            if not self.faults.take("never ready"):
                self._boot(instance)
        return instance

    def _boot(self, instance: Instance) -> None:
        instance.address = next_address()
        instance.status = "active"
        if self._machines:
            instance.container = Container(
                self._image(instance),
                Path(self._folder.name, instance.id),
                self._group,
                instance.address,
                on_line=lambda _: None,
                on_exit=lambda *_: self._switched_off(instance),
            )

    def _image(self, instance: Instance) -> Image:
        kind = instance.type
        gpus = [
            {"index": index, "name": "NVIDIA " + kind["gpu"].partition(" ")[0], "uuid": f"GPU-{instance.id}-{index}",
             "memory.total": kind["mib"], "compute_cap": kind["cc"]}
            for index in range(kind["gpus"])
        ]  # fmt: skip
        return Image(
            name=instance.id[:12],
            command=COMMAND,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
            memory_bytes=round(kind["gib"] * GIB * self._memory_scale),
            disk_bytes=None,
            gpus=gpus,
            has_gpu=True,
            files=FILES,
            told={"user-data": instance.order.get("user_data", "")},
        )

    def _switched_off(self, instance: Instance) -> None:
        """By itself, from inside: Lambda bills it all the same."""
        with self.lock:
            if instance.status == "active":
                instance.status = "unhealthy"

    def terminate(self, instance: Instance) -> None:
        """The machine is gone, and so is its bill."""
        with self.lock:
            if instance.ended is None:
                instance.status, instance.ended = "terminated", self.clock.now()
        if instance.container:
            instance.container.remove()

    def close(self) -> None:
        """End everything; afterwards no process, control group or file is left."""
        for instance in self.instances():
            self.terminate(instance)
        if self._group:
            self._group.remove()
        self._folder.cleanup()
