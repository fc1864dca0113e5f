"""Whose instance it is. A name is no proof: anybody may call an instance ``gpujob-...``.

An instance is ours if its labels, which it is born with, hold the random word of this home and it has the name that
goes with its key. All others are never touched. Disks carry the same labels. Labels are lower case and short, so what
does not fit into them is in the instance's metadata: no secrets.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from backends.base import Fate, Lease, LeaseRequest
from backends.gce.catalog import NAME
from backends.gce.replies import PREEMPTED, Instance, Operation, State
from backends.rented import vm

PREFIX = "gpujob-"
OWNER = "gpujob_owner"
KEY = "gpujob_key"
TOLD = "gpujob"
"""The metadata item that holds what a lease is made of, as JSON."""

MOST = 63
"""Characters that Google lets a name or a label's value have."""

LATE_SECONDS = 60
"""Google may end an instance up to 30 s after its time, and takes as long to do it: so much earlier it is told to."""

BACKUP_SECONDS = 3600
"""So long after the reservation the machine ends itself by its wall clock, should Google not have done it."""

_COMING = (State.PROVISIONING, State.STAGING, State.PENDING, State.RUNNING, State.REPAIRING)
_PLAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def name_of(key: str) -> str:
    """The name of the instance that carries ``key``, and of its disk: lower case, at most 63 characters."""
    return PREFIX + short(key, MOST - len(PREFIX))


def short(key: str, most: int = MOST) -> str:
    """``key`` as far as names and labels may hold it; one that they may not is told by its digest."""
    if len(key) <= most and _PLAIN.fullmatch(key):
        return key
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def tag_of(word: str) -> str:
    """The network tag of all machines of a home, and the beginning of its firewall rules' names."""
    return f"{PREFIX}{word[:16]}"


def labels_for(key: str, word: str) -> dict[str, str]:
    """What an instance and its disk are born with."""
    return {OWNER: word, KEY: short(key)}


def metadata_for(request: LeaseRequest, ends_at: int, public_key: str, snippet: str) -> dict[str, str]:
    """What an instance is told at its birth: a way in for our key alone, and its end.

    Google deletes it in time. It does not power itself off before that: a stopped instance is never deleted by its time
    limit, and its disk would cost money for ever.
    """
    seconds = int(request.max_seconds)
    script = vm.boot_script(
        key=request.key,
        ends_at=ends_at + BACKUP_SECONDS,
        max_seconds=seconds + LATE_SECONDS,
        public_key=public_key,
        provider_snippet=snippet,
    )
    told = {
        "key": request.key,
        "offer": request.offer.name,
        "ends_at": ends_at,
        "max_seconds": seconds,
        "gpus": request.offer.gpu_count,
    }
    return {
        "startup-script": script,
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
        "install-nvidia-driver": "True",
        TOLD: json.dumps(told),
    }


def run_seconds(ends_at: int, now: datetime) -> int:
    """When Google has to delete it, in seconds from its start, which is later than ``now``."""
    return ends_at - int(now.timestamp()) - LATE_SECONDS


def ends_at(request: LeaseRequest, asked_at: datetime) -> int:
    """The hour at which an instance must be over, in seconds since 1970."""
    ends = asked_at.timestamp() + request.max_seconds
    return int(min(ends, request.ends_at.timestamp()) if request.ends_at else ends)


def key_of(instance: Instance) -> str:
    """The key that an instance carries; empty where it carries none."""
    return str(_told(instance).get("key") or "")


def is_ours(instance: Instance, word: str) -> bool:
    """Whether the home with ``word`` has rented it."""
    key = key_of(instance)
    return bool(word and key) and instance.labels.get(OWNER) == word and instance.name == name_of(key)


def ours(instances: Iterable[Instance], word: str) -> list[Instance]:
    """Those of ``instances`` that the home with ``word`` has rented."""
    return sorted((each for each in instances if is_ours(each, word)), key=lambda each: (each.created_at, each.number))


def lease_of(instance: Instance) -> Lease:
    """The lease that an instance of ours stands for: the same whoever makes it, since all of it comes from its marks.

    It has no ``stop``: a power-off from inside would leave a disk that nothing deletes.
    """
    told = _told(instance)
    details = {
        "offer": str(told.get("offer", "")),
        "name": instance.name,
        "place": instance.zone,
        "spot": instance.spot,
        "gpus": list(range(_whole(told.get("gpus")))),
        "max_seconds": _whole(told.get("max_seconds")),
        "ends_at": _whole(told.get("ends_at")),
        "jobs": vm.PLACE_FOR_JOBS,
        "environments": f"{vm.PLACE_FOR_JOBS}/environments",
        "input_cache": f"{vm.PLACE_FOR_JOBS}/inputs",
        "python": "python3",
    }
    return Lease(key_of(instance), NAME, instance.number, instance.created_at, details)


def _told(instance: Instance) -> Mapping[str, Any]:
    try:
        told = json.loads(instance.metadata.get(TOLD) or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def fate_of(instance: Instance | None, done_to_it: Iterable[Operation]) -> Fate:
    """What became of an instance; None stands for one that Google does not have. ``done_to_it`` is asked for only where
    it is not alive.
    """
    if instance is not None and instance.state in _COMING:
        return Fate.ALIVE
    if any(each.kind == PREEMPTED for each in done_to_it):
        return Fate.PREEMPTED
    return Fate.GONE if instance is None else Fate.ENDED


def over_words(lease: Lease, instance: Instance | None, fate: Fate) -> str:
    """That a lease's instance is over, and how that came."""
    name = lease.details["name"]
    if fate is Fate.PREEMPTED:
        return f"instance {name} was taken back by Google"
    if instance is None:
        return f"instance {name} does not exist any more"
    return f"instance {name} ended by itself: it is {instance.state.value}"
