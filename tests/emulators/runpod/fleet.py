"""All pods of the account and what may be done to them: the provider's own state machine.

Records change under one lock; processes are started and killed outside it. Each start and stop raises the pod's
``generation``, so that a thread which still brings up an earlier one finds that it has been overtaken.
"""

from __future__ import annotations

import itertools
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.emulators.clock import Clock
from tests.emulators.faultproxy import FaultProxy
from tests.emulators.guest.container import Container, Image, next_address, open_group
from tests.emulators.runpod import problems
from tests.emulators.runpod.billing import Rates, disk_rate
from tests.emulators.runpod.faults import Faults
from tests.emulators.runpod.placing import Order, place
from tests.emulators.runpod.pods import ACTIONS, Pod, Status
from tests.emulators.runpod.problems import Problem
from tests.emulators.runpod.settings import GB, Settings

IMAGE = Path(__file__).parent / "image"
FILES = {
    "/start.sh": (str(IMAGE / "start.sh"), 0o755),
    "/usr/local/bin/runpodctl": (str(IMAGE / "runpodctl"), 0o755),
}
"""What RunPod's own images have, and where it lies here."""
ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTBID = "Exited by Runpod: outbid"
RESETTING = ("image", "args", "disk", "ports", "env", "registry", "cmd", "entrypoint", "volume", "volume_path")


class Fleet:
    """The account's pods. ``created`` holds every pod there ever was, in order."""

    def __init__(self, settings: Settings, clock: Clock, faults: Faults) -> None:
        self.settings = settings
        self.clock = clock
        self.faults = faults
        self.created: list[Pod] = []
        self.account_keys: list[str] = []
        self.api = ""
        self.lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        self._folder = tempfile.TemporaryDirectory(prefix="gpujob-runpod-", ignore_cleanup_errors=True)
        self._numbers = itertools.count(1)
        self._group = open_group(f"gpujob-runpod-{secrets.token_hex(4)}") if settings.machines else None
        self._transitions: dict[str, Callable[[Pod], Container | None]] = {
            "start": self._start, "stop": self._stop, "restart": self._restart, "terminate": self._terminate
        }  # fmt: skip
        clock.listeners.append(self.enforce_balance)

    # --- looking ---

    def pods(self) -> list[Pod]:
        """Those that are not terminated."""
        with self.lock:
            return [pod for pod in self.created if pod.status != "TERMINATED"]

    def listed(self) -> list[Pod]:
        """Those that a list shows by now."""
        return [pod for pod in self.pods() if pod.listed_from <= time.monotonic()]

    def get(self, pod_id: str) -> Pod:
        """A pod that is not terminated. Raises Problem 404."""
        for pod in self.pods():
            if pod.id == pod_id:
                return pod
        raise Problem(404, problems.POD_NOT_FOUND)

    def spent(self) -> float:
        """USD that all pods have cost so far."""
        now = self.clock.now()
        with self.lock:
            return sum(pod.meter.amounts(now).total for pod in self.created)

    def balance(self) -> float:
        """USD that are left."""
        return self.settings.balance - self.spent()

    def spend_usd_h(self) -> float:
        """What runs now costs per hour."""
        return sum(pod.usd_h for pod in self.pods())

    # --- doing ---

    def create(self, order: Order, *, start_ssh: bool = False) -> Pod:
        """Rent a machine; it comes up by itself. Raises Problem."""
        if start_ssh and "PUBLIC_KEY" not in order.env and self.account_keys:
            order.env["PUBLIC_KEY"] = "\n".join(self.account_keys)
        with self.lock:
            placement = place(order, self.settings.catalog, self.faults)
            self._check_money(placement.usd_h)
            stale = self.faults.take("stale list")
            disk = self.faults.take("disk", gpu=order.gpu)
            pod = Pod(
                id="".join(random.SystemRandom().choices(ID_LETTERS, k=14)),
                order=order,
                place=placement,
                key=f"rpa_POD{secrets.token_hex(12).upper()}",
                created_at=self.clock.shown(),
                listed_from=time.monotonic() + stale["seconds"] if stale else 0.0,
                gpus_present=order.gpu_count if order.gpu else 0,
                disk_bytes=disk["size"] if disk else None,
            )
            self.created.append(pod)
            self._enter(pod, "PROVISIONING")
            self._begin(pod, self.settings.provisioning_seconds)
        return pod

    def act(self, pod: Pod, action: str) -> None:
        """start, stop, restart or terminate. Raises Problem 409 where the status does not allow it."""
        with self.lock:
            if action not in ACTIONS[pod.status]:
                raise Problem(409, f"cannot {action} a pod that is {pod.status}")
            if pod.locked and action in ("stop", "restart"):
                raise Problem(409, f"pod is locked: cannot {action}")
            container = self._transitions[action](pod)
        if container:
            container.remove()

    def update(self, pod: Pod, changes: dict[str, Any], *, locked: bool | None = None) -> None:
        """Change what was ordered; anything that the container is made from resets a pod that is up."""
        with self.lock:
            for name, value in changes.items():
                setattr(pod.order, name, value)
            self._set_rates(pod)
            pod.locked = pod.locked if locked is None else locked
            container = None
            if set(changes) & set(RESETTING) and pod.status in ("STARTING", "RUNNING"):
                container = self._restart(pod)
        if container:
            container.remove()

    def take_back(self, pod: Pod) -> None:
        """Preempt a spot pod: it is stopped without notice."""
        assert pod.spot, "only a spot pod can be preempted"
        self._end(pod, pod.generation, "EXITED", OUTBID)

    def exit(self, pod: Pod, status: int = 0) -> None:
        """The container ends by itself."""
        self._end(pod, pod.generation, "EXITED", f"Exited by container: status {status}")

    def change_port(self, pod: Pod) -> None:
        """Every public port moves; connections are reset."""
        with self.lock:
            for private, proxy in list(pod.proxies.items()):
                pod.proxies[private] = FaultProxy(proxy.upstream, delay_seconds=proxy.delay_seconds)
                proxy.close()

    def enforce_balance(self) -> None:
        """At nothing left, running pods are terminated: none of them has a network volume."""
        if self.balance() <= 0:
            for pod in [each for each in self.pods() if each.billed]:
                self._end(pod, pod.generation, "TERMINATED", "Terminated by Runpod: no credit")

    def close(self) -> None:
        """Terminate everything; afterwards no process, control group or file is left."""
        for pod in self.pods():
            self._end(pod, pod.generation, "TERMINATED", "Terminated: the emulator closes")
        for thread in self._threads:
            thread.join(timeout=60)
        if self._group:
            self._group.remove()
        self._folder.cleanup()

    # --- transitions, under the lock; each returns the container that is to be removed ---

    def _start(self, pod: Pod) -> Container | None:
        if self.faults.take("refuse start", gpu=pod.order.gpu):
            raise Problem(400, problems.NO_FREE_GPUS)
        self._check_money(pod.place.usd_h)
        pod.gpus_present = 0 if self.faults.take("zero gpus", gpu=pod.order.gpu) else pod.order.gpu_count
        self._enter(pod, "STARTING", "Resumed by user")
        self._begin(pod, 0.0)
        return None

    def _stop(self, pod: Pod) -> Container | None:
        return self._retire(pod, "EXITED", "Exited by user")

    def _restart(self, pod: Pod) -> Container | None:
        container = self._retire(pod, "STARTING", "Restarted by user")
        self._begin(pod, 0.0)
        return container

    def _terminate(self, pod: Pod) -> Container | None:
        return self._retire(pod, "TERMINATED", "Terminated by user")

    def _retire(self, pod: Pod, status: Status, why: str) -> Container | None:
        """End this generation: ports are closed, waits are over."""
        pod.generation += 1
        pod.changed.set()
        pod.changed = threading.Event()
        pod.up = False
        container, pod.container = pod.container, None
        for proxy in pod.proxies.values():
            proxy.close()
        pod.proxies = {}
        self._enter(pod, status, why)
        if status == "TERMINATED":
            pod.logs.close()
        return container

    def _enter(self, pod: Pod, status: Status, why: str = "Created by user") -> None:
        """Take on a status, and its rates."""
        pod.status, pod.why = status, why
        self._set_rates(pod)
        pod.logs.add(self.clock.shown(), "system", f"{status}: {why}")

    def _set_rates(self, pod: Pod) -> None:
        """Meter what the pod costs from now on."""
        usd_s = pod.usd_h / 3600
        stopped = not pod.billed
        gone = pod.status == "TERMINATED"
        disk = 0.0 if gone else disk_rate(pod.order.disk, pod.order.volume, stopped=stopped)
        rates = Rates(gpu=usd_s, disk=disk) if pod.order.gpu else Rates(cpu=usd_s, disk=disk)
        pod.meter.switch(rates, self.clock.now())

    def _check_money(self, usd_h: float) -> None:
        """An hour of it must be there. Raises Problem 402 or 403."""
        if self.balance() < usd_h:
            raise Problem(402, problems.LOW_BALANCE)
        if self.spend_usd_h() + usd_h > self.settings.spend_limit_usd_h:
            raise Problem(403, problems.SPEND_LIMIT)

    def _end(self, pod: Pod, generation: int, status: Status, why: str) -> None:
        """Go to a final status, unless something else has happened since that generation."""
        with self.lock:
            if pod.generation != generation or not (pod.billed or status == "TERMINATED"):
                return
            container = self._retire(pod, status, why)
        if container:
            container.remove()

    # --- coming up, in a thread ---

    def _begin(self, pod: Pod, wait: float) -> None:
        thread = threading.Thread(
            target=self._bring_up, args=(pod, pod.generation, wait, pod.changed), name=f"up-{pod.id}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _bring_up(self, pod: Pod, generation: int, wait: float, changed: threading.Event) -> None:
        """PROVISIONING, STARTING, RUNNING, and what a fault has in store; ends early when overtaken."""
        facts = {"gpu": pod.order.gpu, "data_center": pod.place.data_center}
        slow = self.faults.take("slow image", **facts)
        delay = slow["seconds"] if slow else self.settings.starting_seconds
        steps: list[tuple[float, Callable[[], None]]] = [
            (wait, lambda: self._enter(pod, "STARTING")),
            (delay, lambda: self._run(pod, generation, facts)),
        ]
        for seconds, step in steps:
            if changed.wait(None if seconds == float("inf") else seconds):
                return
            with self.lock:
                if pod.generation != generation:
                    return
                step()
        self._await_end(pod, generation, changed, facts)

    def _await_end(self, pod: Pod, generation: int, changed: threading.Event, facts: dict[str, str | None]) -> None:
        """What a fault has in store for a running pod."""
        preempted = self.faults.take("preemption", **facts) if pod.spot else None
        exits = self.faults.take("exits", **facts)
        if preempted and not changed.wait(preempted["after"]):
            self._end(pod, generation, "EXITED", OUTBID)
        elif exits and not changed.wait(exits["after"]):
            self._end(pod, generation, "EXITED", "Exited by container: status 0")

    def _run(self, pod: Pod, generation: int, facts: dict[str, str | None]) -> None:
        """RUNNING, or what becomes of a pod instead."""
        if self.faults.take("error status", **facts):
            self._enter(pod, "ERROR", "Container could not be started")
            return
        self._enter(pod, "RUNNING", "Started by Runpod")
        pod.started_at = self.clock.shown()
        pod.up_since = time.monotonic()
        if self.faults.take("never ready", **facts):
            return
        address = next_address()
        for port in pod.order.ports:
            number, _, kind = port.partition("/")
            if kind == "tcp":
                upstream = address if number == "22" else ("127.0.0.1", int(number))
                pod.proxies[int(number)] = FaultProxy(upstream, delay_seconds=self.settings.ssh_delay_seconds)
        pod.up = True  # whoever sees that finds its ports
        if 22 in pod.proxies and self.faults.take("deaf ssh", **facts):
            pod.ssh.refuse()
        if not self.settings.machines:
            return
        pod.has_wrong_gpu = bool(self.faults.take("wrong gpu", gpu=pod.order.gpu))
        pod.container = Container(
            self._image(pod),
            Path(self._folder.name, f"{pod.id}-{next(self._numbers)}"),
            self._group,
            address,
            on_line=lambda text: pod.logs.add(self.clock.shown(), "container", text),
            on_exit=lambda status, kills: self._exited(pod, generation, status, kills),
        )

    def _exited(self, pod: Pod, generation: int, status: int, kills: int) -> None:
        """PID 1 has ended."""
        if kills:
            pod.logs.add(self.clock.shown(), "system", f"{kills} processes killed: out of memory")
        self._end(pod, generation, "EXITED", f"Exited by container: status {status}")

    def _image(self, pod: Pod) -> Image:
        gpu, order = pod.place.gpu, pod.order
        shown = ("Tesla T4", 15360) if pod.has_wrong_gpu else (gpu.id, gpu.vram_mib) if gpu else None
        return Image(
            name=pod.id,
            command=pod.command(),
            env=self._environment(pod),
            memory_bytes=round(pod.place.ram_gb * GB * self.settings.memory_scale),
            disk_bytes=pod.disk_bytes,
            gpus=[
                {
                    "index": index, "name": shown[0], "uuid": f"GPU-{pod.id}-{index}", "memory.total": shown[1],
                    "compute_cap": gpu.compute_capability,
                }
                for index in range(pod.gpus_present)
            ] if gpu and shown else [],
            has_gpu=gpu is not None,
            files=FILES,
            told={"api": self.api},
            mounts=[(str(self._volume(pod)), order.volume_path)] if order.volume else [],
        )  # fmt: skip

    def _volume(self, pod: Pod) -> Path:
        """The folder that is its persistent mount: it outlives stops."""
        folder = Path(self._folder.name, f"{pod.id}-volume")
        folder.mkdir(exist_ok=True)
        return folder

    def _environment(self, pod: Pod) -> dict[str, str]:
        """What the container's PID 1 sees."""
        place = pod.place
        env = {
            "PATH": PATH, "HOME": "/root", **self.settings.image_env, **pod.order.env,
            "RUNPOD_POD_ID": pod.id, "RUNPOD_API_KEY": pod.key, "RUNPOD_DC_ID": place.data_center,
            "RUNPOD_POD_HOSTNAME": pod.id, "RUNPOD_CPU_COUNT": str(place.vcpus), "RUNPOD_MEM_GB": str(place.ram_gb),
        }  # fmt: skip
        if place.gpu:
            env["RUNPOD_GPU_COUNT"] = str(pod.gpus_present)
            env["RUNPOD_GPU_NAME"] = place.gpu.name.replace(" ", "+")
        for private, proxy in pod.proxies.items():
            env[f"RUNPOD_TCP_PORT_{private}"] = str(proxy.port)
            env["RUNPOD_PUBLIC_IP"] = proxy.host
        return env
