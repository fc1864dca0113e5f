"""Lambda Cloud, emulated; its backend is the plugin, installed as its users do and found by its entry point."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from backends.base import Backend
from tests.conformance.providers.adapter import Adapter, Bench
from tests.emulators.guest.container import SSHD_PORT
from tests.emulators.lambda_cloud import LambdaEmulator
from tests.plugins import installed_lambda, opener


class Lambda(Adapter):
    name = "lambda"
    ends_alone = ""

    def __init__(self, bench: Bench, cloud: LambdaEmulator) -> None:
        super().__init__(bench)
        self.cloud = cloud
        self.secrets = [cloud.key]

    def backend(self, home: str = "home") -> Backend:
        return self._open(home, accept_no_end=True)

    def unready(self) -> Backend:
        return self._open("unready", credential=lambda _: None)

    def by_default(self) -> Backend:
        return self._open("home")

    def _open(self, home: str, **settings: Any) -> Backend:
        given = {"credential": lambda _: self.cloud.key, "ssh_port": SSHD_PORT, "pace": 0.0, **settings}
        return opener("lambda")(self.bench.folder / home, given)

    def machines(self) -> Sequence[str]:
        return [each.id for each in self.cloud.instances()]

    def leftovers(self) -> Sequence[str]:
        return [f"SSH key {key['name']}" for key in self.cloud.fleet.keys.values()]

    def stranger(self, key: str) -> str:
        self.cloud.answer("POST", "/ssh-keys", {"name": "theirs", "public_key": "ssh-ed25519 AAAA"})
        order = {
            "region_name": "us-east-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["theirs"],
            "name": f"gpujob-{key}", "tags": [{"key": "gpujob-key", "value": key}],
        }  # fmt: skip
        made = self.cloud.answer("POST", "/instance-operations/launch", order)
        return str(made["instance_ids"][0])

    def vanish(self, machine: str) -> None:
        self.cloud.answer("POST", "/instance-operations/terminate", {"instance_ids": [machine]})

    def lose_reply(self) -> None:
        self.cloud.faults.lost_reply()

    def lag(self) -> None:
        self.cloud.faults.stale_list(seconds=1.0)

    def no_capacity(self) -> None:
        self.cloud.faults.no_capacity()

    def never_reachable(self) -> None:
        self.cloud.faults.never_ready()

    def raise_price(self) -> None:
        self.cloud.faults.dearer(cents=10)

    def seen(self) -> str:
        return json.dumps(self.cloud.launches)


@contextmanager
def lambda_cloud(bench: Bench) -> Iterator[Lambda]:
    with installed_lambda(), LambdaEmulator(machines=bench.machines) as cloud:
        bench.patch.setenv("LAMBDA_API_BASE_URL", cloud.url)
        yield Lambda(bench, cloud)
