"""RunPod, emulated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from backends.runpod import open_backend
from backends.runpod.backend import RunpodBackend
from backends.runpod.marks import name_of
from backends.runpod.settings import API_VARIABLE
from tests.conformance.providers.adapter import Adapter, Bench
from tests.emulators.runpod import RunPodEmulator
from tests.emulators.runpod_kit import Client


class RunPod(Adapter):
    name = "runpod"
    ends_alone = "a guard in the pod, by the key that RunPod gives each pod for itself"
    least_seconds = 13.0

    def __init__(self, bench: Bench, cloud: RunPodEmulator) -> None:
        super().__init__(bench)
        self.cloud = cloud
        self.secrets = [cloud.key]

    def backend(self, home: str = "home") -> RunpodBackend:
        return open_backend(self.bench.folder / home, {"credential": lambda _: self.cloud.key})

    def unready(self) -> RunpodBackend:
        return open_backend(self.bench.folder / "unready", {"credential": lambda _: None})

    def machines(self) -> Sequence[str]:
        return [pod.id for pod in self.cloud.pods()]

    def stranger(self, key: str) -> str:
        return str(Client(self.cloud).create(name=name_of(key), env={"GPUJOB_KEY": key})["id"])

    def vanish(self, machine: str) -> None:
        Client(self.cloud)("DELETE", f"/v2/pods/{machine}")

    def lose_reply(self) -> None:
        self.cloud.faults.lost_reply()

    def lag(self) -> None:
        self.cloud.faults.stale_list(seconds=1.0)

    def no_capacity(self) -> None:
        self.cloud.faults.no_capacity()

    def never_reachable(self) -> None:
        self.cloud.faults.never_ready()

    def raise_price(self) -> None:
        cpus, gpus = self.cloud.catalog.cpus, self.cloud.catalog.gpus
        cpus[:] = [replace(cpu, usd_h_per_vcpu=2 * cpu.usd_h_per_vcpu) for cpu in cpus]
        gpus[:] = [replace(gpu, secure=2 * (gpu.secure or 0), community=2 * (gpu.community or 0)) for gpu in gpus]

    def seen(self) -> str:
        return json.dumps([call.body for call in self.cloud.requests if call.method == "POST"])


@contextmanager
def runpod(bench: Bench) -> Iterator[RunPod]:
    with RunPodEmulator(machines=bench.machines, memory_scale=0.02) as cloud:
        bench.patch.setenv(API_VARIABLE, cloud.url)
        yield RunPod(bench, cloud)
