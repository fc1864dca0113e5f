"""AWS, emulated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from backends.aws import open_backend
from backends.aws.backend import AwsBackend
from backends.aws.marks import name_of
from tests.conformance.providers.adapter import Adapter, Bench
from tests.emulators.aws import AwsEmulator


class Aws(Adapter):
    name = "aws"
    ends_alone = "a guard in the instance, whose power-off AWS was told to take for its end"
    least_seconds = 40.0
    unfit = {
        "dearer": "on demand costs what the price list says; a spot instance is asked for with what was offered as its "
        "MaxPrice, and not given for more",
    }

    def __init__(self, bench: Bench, cloud: AwsEmulator) -> None:
        super().__init__(bench)
        self.cloud = cloud
        self.secrets = [cloud.env["AWS_SECRET_ACCESS_KEY"]]

    def backend(self, home: str = "home") -> AwsBackend:
        return open_backend(self.bench.folder / home, {**self.cloud.settings, "regions": ("us-east-1",)})

    def unready(self) -> AwsBackend:
        self.bench.patch.delenv("AWS_ACCESS_KEY_ID")
        return self.backend("unready")

    def machines(self) -> Sequence[str]:
        return self.cloud.running()

    def leftovers(self) -> Sequence[str]:
        kinds = ("security_groups", "volumes", "key_pairs")
        return [f"{kind}: {each}" for kind in kinds for each in self.cloud.left(kind)] + self.cloud.s3.names()

    def stranger(self, key: str) -> str:
        return self.cloud.run_for_another({"Name": name_of(key), "gpujob:key": key})

    def vanish(self, machine: str) -> None:
        box = self.cloud.fleet.of(machine)
        assert box
        self.cloud.fail(box)

    def lose_reply(self) -> None:
        self.cloud.lose_reply()

    def lag(self) -> None:
        self.cloud.hide_new(looks=2)

    def no_capacity(self) -> None:
        self.cloud.refuse("RunInstances", 500, "InsufficientInstanceCapacity", times=1000)

    def never_reachable(self) -> None:
        """Instances that are records only never answer."""
        assert not self.bench.machines

    def seen(self) -> str:
        return json.dumps(self.cloud.orders)


@contextmanager
def aws(bench: Bench) -> Iterator[Aws]:
    with AwsEmulator(machines=bench.machines) as cloud:
        for name, value in cloud.env.items():
            bench.patch.setenv(name, value)
        yield Aws(bench, cloud)
