"""One pod's record: what was ordered, where it is, how it stands, what it costs, and how REST v2 shows it."""

from __future__ import annotations

import shlex
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.emulators.clock import rfc3339
from tests.emulators.faultproxy import FaultProxy
from tests.emulators.guest.container import Container
from tests.emulators.runpod.billing import Meter
from tests.emulators.runpod.logs import Logs
from tests.emulators.runpod.placing import Order, Placement

Status = Literal["PROVISIONING", "STARTING", "RUNNING", "EXITED", "ERROR", "TERMINATED"]
ACTIONS: dict[Status, list[str]] = {
    "PROVISIONING": ["stop", "terminate"],
    "STARTING": ["stop", "terminate"],
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "ERROR": ["start", "terminate"],
    "TERMINATED": [],
}
BILLED = ("PROVISIONING", "STARTING", "RUNNING")
PROXY_HOST = "ssh.runpod.invalid"
"""The real proxy's place; nothing answers here, as nothing of ours may use it (it carries no files)."""


@dataclass(kw_only=True)
class Pod:
    """A pod. Times are the emulator's clock as shown; ``generation`` counts its starts and stops."""

    id: str
    order: Order
    place: Placement
    key: str
    created_at: float
    status: Status = "PROVISIONING"
    why: str = "Created by user"
    started_at: float | None = None
    up: bool = False
    """Whether its container runs."""
    up_since: float = 0.0
    generation: int = 0
    locked: bool = False
    listed_from: float = 0.0
    gpus_present: int = 0
    disk_bytes: int | None = None
    container: Container | None = None
    has_wrong_gpu: bool = False
    proxies: dict[int, FaultProxy] = field(default_factory=dict)
    logs: Logs = field(default_factory=Logs)
    meter: Meter = field(default_factory=Meter)
    changed: threading.Event = field(default_factory=threading.Event)
    """Set, and replaced, whenever the pod is started or stopped: ends waits that belong to the time before."""

    @property
    def billed(self) -> bool:
        """Whether compute is paid for."""
        return self.status in BILLED

    @property
    def usd_h(self) -> float:
        """What it costs now, without disk."""
        return self.place.usd_h if self.billed else 0.0

    @property
    def ssh(self) -> FaultProxy:
        """The network in front of its sshd. Raises KeyError where it has none."""
        return self.proxies[22]

    @property
    def spot(self) -> bool:
        """Whether it may be taken back."""
        return self.order.bid is not None

    def uptime(self) -> int:
        """Seconds since its container is up."""
        return int(time.monotonic() - self.up_since)

    def gpu_use(self) -> list[tuple[int, int]]:
        """Utilisation and memory in use of each GPU, both in percent."""
        use = self.container.gpu_use() if self.container else {}
        total = self.place.gpu.vram_mib if self.place.gpu else 1
        each = [use.get(str(index), {}) for index in range(self.gpus_present)]
        return [(gpu.get("percent", 0), round(100 * gpu.get("used_mib", 0) / total)) for gpu in each]

    def command(self) -> list[str]:
        """PID 1's argv, as Docker puts it together: another entrypoint also forgets the image's command."""
        own = self.order.cmd or shlex.split(self.order.args)
        return [*self.order.entrypoint, *own] or ["/start.sh"]

    def processes(self) -> list[int]:
        """Pids of its live processes, as this machine numbers them."""
        return self.container.processes() if self.container else []


def document(pod: Pod) -> dict[str, Any]:
    """The pod as REST v2 shows it."""
    order, place = pod.order, pod.place
    shown: dict[str, Any] = {
        "id": pod.id, "name": order.name, "status": pod.status, "actions": ACTIONS[pod.status], "image": order.image,
        "args": order.args, "disk": order.disk, "mounts": _mounts(order), "ports": order.ports, "env": order.env,
        "registry": order.registry, "cloud": order.cloud, "dataCenterId": place.data_center,
        "cudaVersion": place.cuda, "ssh": {"proxy": _ssh_proxy(pod), "direct": _ssh_direct(pod)}, "template": None,
        "cost": pod.usd_h, "locked": pod.locked, "globalNetworking": {"enabled": False}, "runtime": _runtime(pod),
        "createdAt": rfc3339(pod.created_at), "startedAt": rfc3339(pod.started_at) if pod.started_at else None,
    }  # fmt: skip
    for name in ("cmd", "entrypoint"):
        if getattr(order, name):
            shown[name] = getattr(order, name)
    if place.gpu:
        shown["gpu"] = {
            "id": place.gpu.id, "count": order.gpu_count, "vcpuCount": place.vcpus, "memory": place.ram_gb
        }  # fmt: skip
    else:
        shown["cpu"] = {"id": order.cpu, "vcpuCount": place.vcpus, "memory": place.ram_gb}
    return shown


def _mounts(order: Order) -> dict[str, Any]:
    return {"persistent": {"size": order.volume, "path": order.volume_path}} if order.volume else {}


def _ssh_proxy(pod: Pod) -> dict[str, Any] | None:
    if pod.status == "PROVISIONING":
        return None
    user = f"{pod.id}-{int(pod.id, 36) % (1 << 32):08x}"
    return {"host": PROXY_HOST, "port": 22, "username": user, "command": f"ssh {user}@{PROXY_HOST}"}


def _ssh_direct(pod: Pod) -> dict[str, Any] | None:
    if not pod.up or 22 not in pod.proxies:
        return None
    host, port = pod.ssh.host, pod.ssh.port
    return {"host": host, "port": port, "username": "root", "command": f"ssh root@{host} -p {port}"}


def _runtime(pod: Pod) -> dict[str, Any] | None:
    """Null until the container is up, but {} while provisioning: clients must take both for "not yet"."""
    if not pod.up:
        return {} if pod.status == "PROVISIONING" else None
    return {
        "uptime": pod.uptime(),
        "gpus": [{"util": percent, "memoryUtil": memory} for percent, memory in pod.gpu_use()],
        "cpu": {"util": pod.container.cpu_percent() if pod.container else 0},
        "memory": {"util": pod.container.memory_percent() if pod.container else 0},
        "ports": [runtime_port(pod, port) for port in pod.order.ports],
    }


def runtime_port(pod: Pod, spec: str) -> dict[str, Any]:
    """One entry of the live port map; ports for HTTP go through the provider's own proxy and have no address."""
    number, _, kind = spec.partition("/")
    proxy = pod.proxies.get(int(number)) if kind == "tcp" else None
    return {
        "private": int(number),
        "public": proxy.port if proxy else None,
        "type": kind,
        "ip": proxy.host if proxy else None,
    }
