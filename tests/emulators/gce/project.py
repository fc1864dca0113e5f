"""What a project holds, and what each method does to it."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backends.gce.tables import machine_types
from tests.emulators.clock import rfc3339
from tests.emulators.gce.access import PROJECT
from tests.emulators.gce.contract import Refused
from tests.emulators.gce.fleet import Box

if TYPE_CHECKING:
    from tests.emulators.gce.emulator import GceEmulator

API = "https://www.googleapis.com/compute/v1"
REGION = "us-central1"
ZONES = tuple(f"{REGION}-{letter}" for letter in "abc")
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[a-z][-_a-z0-9]{0,62}"), re.compile(r"[-_a-z0-9]{0,63}")
REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
FILTER = re.compile(r'([\w.]+) = "([^"]*)"')
LEAST_RUN, MOST_RUN = 30, 120 * 24 * 3600
LOOK_SECONDS = 0.01

Values = dict[str, Any]


class Project:
    """Operations, disks, firewall rules by name; the instances are the fleet's."""

    def __init__(self, cloud: GceEmulator) -> None:
        self.disks: dict[tuple[str, str], Values] = {}
        """By zone and name."""
        self.rules: dict[str, Values] = {}
        self.quotas: dict[str, int] = {}
        self.operations: dict[str, Values] = {}
        self._cloud = cloud
        self._looks: dict[str, int] = {}
        """How often an operation is still shown as running."""
        self._heard: dict[str, Values] = {}
        """The operation of each requestId."""
        self._numbers = itertools.count(1)

    def do(self, method: str, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        """Carry a method out."""
        act: Callable[..., Values] = getattr(self, f"_{method.replace('.', '_')}")
        return act(names, query, body)

    # --- operations ---

    def note(self, kind: str, box: Box) -> None:
        """Google has done something to an instance by itself."""
        self._operation(kind, f"instances/{box.name}", zone=box.zone, number=box.number)

    def _operation(
        self, kind: str, target: str, *, zone: str = "", number: str = "", request_id: str = "",
        error: tuple[str, str, int] | None = None, looks: int = 1,
    ) -> Values:  # fmt: skip
        place = f"zones/{zone}" if zone else "global"
        now = rfc3339(self._cloud.clock.shown())
        operation: Values = {
            "kind": "compute#operation",
            "name": f"operation-{next(self._numbers)}",
            "operationType": kind,
            "targetLink": f"{API}/projects/{PROJECT}/{place}/{target}",
            "insertTime": now,
            "endTime": now,
            "status": "DONE",
        }
        if zone:
            operation["zone"] = f"{API}/projects/{PROJECT}/zones/{zone}"
        if number:
            operation["targetId"] = number
        if request_id:
            operation["clientOperationId"] = request_id
            self._heard[request_id] = operation
        if error:
            code, message, status = error
            operation["error"] = {"errors": [{"code": code, "message": message}]}
            operation["httpErrorStatusCode"] = status
        self.operations[operation["name"]] = operation
        self._looks[operation["name"]] = looks
        return self._shown(operation)

    def _shown(self, operation: Values) -> Values:
        """As it is told now: what came of it only once it is done."""
        if self._looks[operation["name"]] <= 0:
            return operation
        self._looks[operation["name"]] -= 1
        late = {"status": "RUNNING"}
        return {k: v for k, v in operation.items() if k not in ("error", "httpErrorStatusCode", "endTime")} | late

    def _zoneOperations_wait(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        if names["operation"] not in self.operations:
            raise Refused(404, "notFound", f"The resource '{names['operation']}' was not found")
        time.sleep(LOOK_SECONDS)
        return self._shown(self.operations[names["operation"]])

    _globalOperations_wait = _zoneOperations_get = _zoneOperations_wait

    def _zoneOperations_list(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        here = [each for each in self.operations.values() if each.get("zone", "").endswith(f"/{names['zone']}")]
        return {"items": [self._shown(each) for each in here if _matches(each, query)]}

    # --- instances ---

    def _instances_insert(self, names: dict[str, str], query: dict[str, str], body: Values) -> Values:
        zone, request_id = names["zone"], query.get("requestId", "")
        if not REQUEST_ID.fullmatch(request_id):
            raise Refused(400, "invalid", f"Invalid value for field 'requestId': '{request_id}'")
        if before := self._heard.get(request_id):
            return self._shown(before)
        _check_instance(zone, body)
        if any(box.name == body["name"] and box.zone == zone for box in self._cloud.boxes()):
            raise Refused(409, "alreadyExists", f"The resource '{zone}/instances/{body['name']}' already exists")
        looks = rule["looks"] if (rule := self._cloud.take("dawdle", "instances.insert", zone)) else 1
        target, error = f"instances/{body['name']}", self._lack(zone, body)
        if error:
            return self._operation("insert", target, zone=zone, request_id=request_id, error=error, looks=looks)
        box = self._cloud.fleet.start(zone, body)
        if rule := self._cloud.take("hide", "instances.insert", zone):
            box.hidden_looks = rule["looks"]
        if self._cloud.take("stick", "instances.insert", zone):
            box.status = "STAGING"
        labels = body["disks"][0]["initializeParams"].get("labels", {})
        self.disks[zone, box.name] = {"labels": labels, "made_at": box.made_at}
        return self._operation("insert", target, zone=zone, number=box.number, request_id=request_id, looks=looks)

    def _lack(self, zone: str, body: Values) -> tuple[str, str, int] | None:
        """Why there is none, as the operation tells it."""
        if rule := self._cloud.take("fail", "instances.insert", zone):
            code, message, status = rule["error"]
            return code, message, status
        type_ = machine_types()[body["machineType"].rpartition("/")[2], REGION]
        both = [self.quotas.get(metric, 8) for metric in (type_.quota, f"PREEMPTIBLE_{type_.quota}")]
        if max(both) < type_.gpu_count:
            return "QUOTA_EXCEEDED", f"Quota '{type_.quota}' exceeded.  Limit: {max(both)}.0 in region {REGION}.", 403
        if (limit := self.quotas.get("GPUS_ALL_REGIONS", 8)) < type_.gpu_count:
            return "QUOTA_EXCEEDED", f"Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: {limit}.0 globally.", 403
        return None

    def _box(self, names: dict[str, str]) -> Box:
        for box in self._cloud.boxes():
            if (box.zone, box.name) == (names["zone"], names["instance"]):
                return box
        raise Refused(404, "notFound", f"The resource '{names['zone']}/instances/{names['instance']}' was not found")

    def _instances_get(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        return _instance(self._box(names))

    def _instances_aggregatedList(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        found: list[tuple[str, Values]] = []
        for box in self._cloud.boxes():
            if box.hidden_looks > 0:
                box.hidden_looks -= 1
            else:
                found.append((box.zone, _instance(box)))
        return _scattered("instances", found, query)

    def _instances_delete(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        box = self._box(names)
        self._cloud.end(box, "deleted")
        return self._operation("delete", f"instances/{box.name}", zone=box.zone, number=box.number)

    # --- what instances need ---

    def _disks_get(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        if (names["zone"], names["disk"]) not in self.disks:
            raise Refused(404, "notFound", f"The resource 'disks/{names['disk']}' was not found")
        return self._disk(names["zone"], names["disk"])

    def _disks_aggregatedList(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        return _scattered("disks", [(zone, self._disk(zone, name)) for zone, name in self.disks], query)

    def _disks_delete(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        if self._disks_get(names, query, body).get("users"):
            raise Refused(400, "resourceInUseByAnotherResource", f"The disk {names['disk']} is in use")
        del self.disks[names["zone"], names["disk"]]
        return self._operation("delete", f"disks/{names['disk']}", zone=names["zone"])

    def _disk(self, zone: str, name: str) -> Values:
        disk = self.disks[zone, name]
        users = [box.name for box in self._cloud.boxes() if (box.zone, box.name) == (zone, name)]
        return {
            "name": name,
            "zone": f"{API}/projects/{PROJECT}/zones/{zone}",
            "labels": disk["labels"],
            "creationTimestamp": rfc3339(disk["made_at"]),
        } | ({"users": users} if users else {})

    def _firewalls_get(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        if names["firewall"] not in self.rules:
            raise Refused(404, "notFound", f"The resource 'firewalls/{names['firewall']}' was not found")
        return self.rules[names["firewall"]]

    def _firewalls_insert(self, names: dict[str, str], query: dict[str, str], body: Values) -> Values:
        if body["name"] in self.rules:
            raise Refused(409, "alreadyExists", f"The resource 'firewalls/{body['name']}' already exists")
        if not NAME.fullmatch(body["name"]):
            raise Refused(400, "invalid", f"Invalid value for field 'resource.name': '{body['name']}'")
        self.rules[body["name"]] = body
        return self._operation("insert", f"firewalls/{body['name']}")

    def _firewalls_patch(self, names: dict[str, str], query: dict[str, str], body: Values) -> Values:
        self._firewalls_get(names, query, body).update(body)
        return self._operation("patch", f"firewalls/{names['firewall']}")

    def _firewalls_delete(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        self._firewalls_get(names, query, body)
        del self.rules[names["firewall"]]
        return self._operation("delete", f"firewalls/{names['firewall']}")

    def _machineTypes_aggregatedList(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        found = [
            (zone, {"name": name, "zone": zone})
            for name, region in machine_types()
            for zone in (*ZONES, "europe-west4-a")
            if region == REGION
        ]
        return _scattered("machineTypes", found, query)

    def _images_getFromFamily(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        link = f"{API}/projects/{names['project']}/global/images/{names['family']}-v20261101"
        return {"name": f"{names['family']}-v20261101", "selfLink": link, "diskSizeGb": "50"}

    def _projects_get(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        return {"name": PROJECT, "quotas": self._quotas(("GPUS_ALL_REGIONS",))}

    def _regions_get(self, names: dict[str, str], query: dict[str, str], body: Any) -> Values:
        metrics = sorted({each.quota for each in machine_types().values()})
        return {"name": names["region"], "quotas": self._quotas([p + m for m in metrics for p in ("", "PREEMPTIBLE_")])}

    def _quotas(self, metrics: Any) -> list[Values]:
        return [{"metric": metric, "limit": float(self.quotas.get(metric, 8)), "usage": 0.0} for metric in metrics]


def _check_instance(zone: str, body: Values) -> None:
    """What the discovery document does not say, and Google refuses all the same."""
    type_ = machine_types().get((body["machineType"].rpartition("/")[2], REGION))
    if zone not in ZONES or type_ is None or not body["machineType"].startswith(f"zones/{zone}/"):
        raise Refused(400, "invalid", f"Invalid value for field 'resource.machineType': '{body['machineType']}'")
    labels = {**body.get("labels", {}), **body["disks"][0]["initializeParams"].get("labels", {})}
    wrong = [
        pair for pair in labels.items() if not all(rule.fullmatch(text) for rule, text in zip(LABEL, pair, strict=True))
    ]
    if not NAME.fullmatch(body["name"]) or wrong:
        raise Refused(
            400, "invalid", f"Invalid value for field 'resource.name' or 'resource.labels': {body['name']} {wrong}"
        )
    scheduling = body["scheduling"]
    if scheduling.get("onHostMaintenance") != "TERMINATE":
        raise Refused(400, "invalid", "Instances with guest accelerators do not support live migration.")
    spot = scheduling.get("provisioningModel") == "SPOT"
    if (spot and scheduling.get("automaticRestart", True)) or (not spot and type_.micros_per_hour is None):
        raise Refused(400, "invalid", f"{type_.name} is not to be had that way")
    seconds = int(scheduling.get("maxRunDuration", {}).get("seconds", LEAST_RUN))
    if not LEAST_RUN <= seconds <= MOST_RUN:
        raise Refused(400, "invalid", f"maxRunDuration must be from {LEAST_RUN} to {MOST_RUN} s, not {seconds}")


def _instance(box: Box) -> Values:
    """As `get` and lists show it."""
    access = {**box.order["networkInterfaces"][0]["accessConfigs"][0], "natIP": box.address[0]}
    return {
        **box.order,
        "id": box.number,
        "zone": f"{API}/projects/{PROJECT}/zones/{box.zone}",
        "machineType": f"{API}/projects/{PROJECT}/{box.order['machineType']}",
        "status": box.status,
        "creationTimestamp": rfc3339(box.made_at),
        "networkInterfaces": [
            {"networkIP": "10.128.0.2", "accessConfigs": [access] if box.status == "RUNNING" else []}
        ],
    }


def _scattered(name: str, found: list[tuple[str, Values]], query: dict[str, str]) -> Values:
    """An aggregated list: by zone, and a warning where a zone has none."""
    items: Values = {f"zones/{zone}": {"warning": {"code": "NO_RESULTS_ON_PAGE"}} for zone in ZONES}
    for zone, value in found:
        if _matches(value, query):
            scope = items.setdefault(f"zones/{zone}", {})
            scope.pop("warning", None)
            scope.setdefault(name, []).append(value)
    return {"items": items}


def _matches(value: Values, query: dict[str, str]) -> bool:
    """Whether it is what the filter asks for: one field, or one label, with one value."""
    if "filter" not in query:
        return True
    match = FILTER.fullmatch(query["filter"])
    if match is None:
        raise Refused(400, "invalid", f"Invalid value for field 'filter': '{query['filter']}'")
    found: Any = value
    for part in match[1].split("."):
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return bool(found == match[2])
