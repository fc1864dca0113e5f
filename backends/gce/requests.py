"""What is asked of Compute Engine, as values: the resource, the method and its parameters. Pure: nothing here asks.

Names are those of the API's discovery document (compute v1).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GIB = 1 << 30
LONGEST_RUN_SECONDS = 120 * 24 * 3600
"""What maxRunDuration may be at most."""

PRIORITY = 900
"""Of our firewall rules: before all that a network has by default (65534), so that SSH is open to nobody else."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One call. ``doing`` is said in errors. ``rents``: a lost reply may have been the word that a machine was made.
    ``waits``: Google answers when something is over, or after two minutes.
    """

    resource: str
    method: str
    doing: str
    params: Mapping[str, Any] = field(default_factory=dict)
    rents: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """The instance to ask for. ``run_seconds`` is when Google deletes it, counted from its start."""

    request_id: str
    name: str
    zone: str
    type: str
    spot: bool
    image: str
    disk_bytes: int
    network: str
    network_tag: str
    run_seconds: int
    labels: Mapping[str, str]
    metadata: Mapping[str, str]


def request_id_of(word: str, key: str, zone: str) -> str:
    """The requestId of a home's request for ``key`` in one zone: the same whoever asks again."""
    digest = hashlib.sha256(f"{word}/{key}/{zone}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def insert_instance(project: str, wish: Wish) -> Ask:
    """Rent one instance: what it must be told at its birth is all here. No service account: it is not trusted."""
    body = {
        "name": wish.name,
        "description": "Rented by gpujob, which deletes it",
        "machineType": f"zones/{wish.zone}/machineTypes/{wish.type}",
        "labels": dict(wish.labels),
        "tags": {"items": [wish.network_tag]},
        "scheduling": {
            "provisioningModel": "SPOT" if wish.spot else "STANDARD",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
            "maxRunDuration": {"seconds": str(min(wish.run_seconds, LONGEST_RUN_SECONDS))},
            "instanceTerminationAction": "DELETE",
        },
        "disks": [_boot_disk(wish)],
        "networkInterfaces": [
            {
                "network": f"global/networks/{wish.network}",
                "accessConfigs": [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}],
            }
        ],
        "metadata": {"items": [{"key": key, "value": value} for key, value in wish.metadata.items()]},
    }
    params = {"project": project, "zone": wish.zone, "requestId": wish.request_id, "body": body}
    return Ask("instances", "insert", f"renting a {wish.type} in {wish.zone}", params, rents=True)


def _boot_disk(wish: Wish) -> dict[str, Any]:
    return {
        "boot": True,
        "autoDelete": True,
        "type": "PERSISTENT",
        "initializeParams": {
            "sourceImage": wish.image,
            "diskSizeGb": str(gib(wish.disk_bytes)),
            "diskType": f"zones/{wish.zone}/diskTypes/pd-balanced",
            "labels": dict(wish.labels),
        },
    }


def gib(size: int) -> int:
    """Google's GB, whole ones, that hold ``size`` bytes."""
    return -(-size // GIB)


def get_instance(project: str, zone: str, name: str) -> Ask:
    """One instance as it is now."""
    return Ask("instances", "get", f"looking at instance {name}", {"project": project, "zone": zone, "instance": name})


def list_instances(project: str, label: str, value: str, page: str = "") -> Ask:
    """The instances with a label, in all zones, those that were stopped among them."""
    return _labelled("instances", project, label, value, page)


def list_disks(project: str, label: str, value: str, page: str = "") -> Ask:
    """The disks with a label, in all zones."""
    return _labelled("disks", project, label, value, page)


def _labelled(resource: str, project: str, label: str, value: str, page: str) -> Ask:
    params = {"project": project, "filter": f'labels.{label} = "{value}"', "maxResults": 500}
    return Ask(resource, "aggregatedList", f"listing {resource}", _paged(params, page))


def delete_instance(project: str, zone: str, name: str) -> Ask:
    """Delete an instance, and its disk with it."""
    params = {"project": project, "zone": zone, "instance": name}
    return Ask("instances", "delete", f"deleting instance {name}", params)


def get_disk(project: str, zone: str, name: str) -> Ask:
    """One disk."""
    return Ask("disks", "get", f"looking at disk {name}", {"project": project, "zone": zone, "disk": name})


def delete_disk(project: str, zone: str, name: str) -> Ask:
    """Delete a disk that no instance uses."""
    return Ask("disks", "delete", f"deleting disk {name}", {"project": project, "zone": zone, "disk": name})


def wait_in_zone(project: str, zone: str, operation: str, doing: str) -> Ask:
    """What became of an operation: answered when it is over, or after two minutes."""
    params = {"project": project, "zone": zone, "operation": operation}
    return Ask("zoneOperations", "wait", doing, params, waits=True)


def wait_everywhere(project: str, operation: str, doing: str) -> Ask:
    """The same for an operation on what belongs to no zone."""
    return Ask("globalOperations", "wait", doing, {"project": project, "operation": operation}, waits=True)


def operations_asked_as(project: str, zone: str, request_id: str) -> Ask:
    """The operations that a request started, found again by its requestId."""
    params = {"project": project, "zone": zone, "filter": f'clientOperationId = "{request_id}"'}
    return Ask("zoneOperations", "list", f"asking what became of a request in {zone}", params)


def operations_on(project: str, zone: str, instance_id: str) -> Ask:
    """What was done to an instance, by its number; Google keeps that for about two weeks."""
    params = {"project": project, "zone": zone, "filter": f'targetId = "{instance_id}"'}
    return Ask("zoneOperations", "list", f"asking what became of an instance in {zone}", params)


def list_types(project: str, type_: str, page: str = "") -> Ask:
    """Where a machine type can be had."""
    params = {"project": project, "filter": f'name = "{type_}"', "maxResults": 500}
    return Ask("machineTypes", "aggregatedList", f"asking which zones have {type_}", _paged(params, page))


def get_project(project: str) -> Ask:
    """The project and its quotas over all regions: the free call that shows whether the credentials are good."""
    return Ask("projects", "get", f"looking at project {project}", {"project": project})


def get_region(project: str, region: str) -> Ask:
    """A region and its quotas."""
    return Ask("regions", "get", f"reading the quotas of {region}", {"project": project, "region": region})


def get_image(image_project: str, family: str) -> Ask:
    """The newest image of a family."""
    params = {"project": image_project, "family": family}
    return Ask("images", "getFromFamily", f"looking at the image family {image_project}/{family}", params)


def get_rule(project: str, name: str) -> Ask:
    """One firewall rule."""
    return Ask("firewalls", "get", f"looking at the firewall rule {name}", {"project": project, "firewall": name})


def admit(project: str, network: str, name: str, description: str, tag: str, source: str, port: int) -> Ask:
    """A rule that lets SSH from ``source`` in to what carries ``tag``."""
    body = {
        **_rule(network, name, description, tag, PRIORITY),
        "allowed": [{"IPProtocol": "tcp", "ports": [str(port)]}],
        "sourceRanges": [source],
    }
    return Ask("firewalls", "insert", f"opening SSH to {source}", {"project": project, "body": body})


def refuse_all(project: str, network: str, name: str, description: str, tag: str) -> Ask:
    """A rule that lets nobody in to what carries ``tag``: whatever the network's own rules admit."""
    body = {
        **_rule(network, name, description, tag, PRIORITY + 1),
        "denied": [{"IPProtocol": "all"}],
        "sourceRanges": ["0.0.0.0/0"],
    }
    return Ask("firewalls", "insert", "closing our machines to everybody else", {"project": project, "body": body})


def _rule(network: str, name: str, description: str, tag: str, priority: int) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "network": f"global/networks/{network}",
        "direction": "INGRESS",
        "priority": priority,
        "targetTags": [tag],
    }


def admit_instead(project: str, name: str, sources: Sequence[str]) -> Ask:
    """Let the rule admit SSH from ``sources`` and from nowhere else."""
    params = {"project": project, "firewall": name, "body": {"sourceRanges": list(sources)}}
    return Ask("firewalls", "patch", f"opening SSH to {', '.join(sources)} only", params)


def delete_rule(project: str, name: str) -> Ask:
    """Delete a firewall rule."""
    return Ask("firewalls", "delete", f"deleting the firewall rule {name}", {"project": project, "firewall": name})


def quota_link(project: str) -> str:
    """Where more of a quota is asked for."""
    return f"https://console.cloud.google.com/iam-admin/quotas?project={project}"


def _paged(params: dict[str, Any], page: str) -> dict[str, Any]:
    return {**params, "pageToken": page} if page else params
