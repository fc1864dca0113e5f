"""Google Compute Engine, emulated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from backends.gce import marks, open_backend, requests
from backends.gce.backend import GceBackend
from tests.conformance.providers.adapter import Adapter, Bench
from tests.emulators.gce import GceEmulator
from tests.emulators.gce.access import PROJECT, TOKEN, private_key
from tests.emulators.gce.project import ZONES

HURRY = 15.0


class Gce(Adapter):
    name = "gce"
    unfit = {"dearer": "Google tells no price when it makes a machine, and takes no highest one"}
    ends_alone = "Google itself, by the time limit that each instance is born with"
    least_seconds = marks.LATE_SECONDS + 35.0

    def __init__(self, bench: Bench, cloud: GceEmulator) -> None:
        super().__init__(bench)
        self.cloud = cloud
        self.secrets = [TOKEN, private_key().splitlines()[1]]

    def backend(self, home: str = "home") -> GceBackend:
        return open_backend(self.bench.folder / home, self.cloud.settings)

    def unready(self) -> GceBackend:
        nothing = str(self.bench.folder / "nothing.json")
        return open_backend(self.bench.folder / "unready", {**self.cloud.settings, "credentials": nothing})

    def machines(self) -> Sequence[str]:
        return [box.number for box in self.cloud.boxes()]

    def leftovers(self) -> Sequence[str]:
        return self.cloud.left()

    def stranger(self, key: str) -> str:
        wish = requests.Wish(
            request_id=requests.request_id_of("stranger", key, ZONES[0]), name=marks.name_of(key), zone=ZONES[0],
            type="g2-standard-4", spot=False, image="theirs", disk_bytes=10**11, network="default", network_tag="x",
            run_seconds=3600, labels={marks.KEY: key}, metadata={marks.TOLD: json.dumps({"key": key})},
        )  # fmt: skip
        params = requests.insert_instance(PROJECT, wish).params
        self.cloud.project.do("instances.insert", {"zone": ZONES[0]}, {"requestId": wish.request_id}, params["body"])
        return self.cloud.created[-1].number

    def vanish(self, machine: str) -> None:
        self.cloud.end(next(box for box in self.cloud.created if box.number == machine), "deleted")

    def lose_reply(self) -> None:
        self.cloud.lose_reply()

    def lag(self) -> None:
        self.cloud.hide_new(looks=10)

    def no_capacity(self) -> None:
        for zone in ZONES:
            self.cloud.no_capacity(zone)

    def never_reachable(self) -> None:
        self.cloud.never_ready()

    def seen(self) -> str:
        return json.dumps([box.order for box in self.cloud.created])


@contextmanager
def gce(bench: Bench) -> Iterator[Gce]:
    with GceEmulator(machines=bench.machines, hurry=HURRY) as cloud:
        for name, value in cloud.env.items():
            bench.patch.setenv(name, value)
        yield Gce(bench, cloud)
