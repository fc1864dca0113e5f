"""Whose instance it is. A name is no proof: anybody may call an instance ``gpujob-...``.

An instance is ours if its tags, which it is born with, hold the random word of this home, and its name is the one that
goes with the key in them. All others are never touched. Volumes and network interfaces carry the same tags.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from backends.aws.catalog import NAME
from backends.aws.replies import SPOT_TAKEN_BACK, Instance, State
from backends.base import Fate, Lease, LeaseRequest
from backends.rented import vm

PREFIX = "gpujob-"
KEY, OWNER, OFFER = "gpujob:key", "gpujob:owner", "gpujob:offer"
ENDS_AT, MAX_SECONDS, GPUS = "gpujob:ends-at", "gpujob:max-seconds", "gpujob:gpus"
STAGE = "gpujob:stage-micros"
"""What staging its upload may cost, by its plan."""

OVER = (State.TERMINATED,)
"""It costs nothing more, and AWS takes it off its lists within the hour."""


def tags_for(request: LeaseRequest, word: str, ends_at: int) -> dict[str, str]:
    """What an instance is born with. No secrets."""
    return {
        "Name": name_of(request.key),
        KEY: request.key,
        OWNER: word,
        OFFER: request.offer.name,
        ENDS_AT: str(ends_at),
        MAX_SECONDS: str(int(request.max_seconds)),
        GPUS: str(request.offer.gpu_count),
        STAGE: str(request.offer.billing.upload_micros),
    }


def name_of(key: str) -> str:
    """The name of the instance that carries ``key``."""
    return PREFIX + key


def ends_at(request: LeaseRequest, asked_at: datetime) -> int:
    """The hour at which an instance must be over, in seconds since 1970."""
    ends = asked_at.timestamp() + request.max_seconds
    return int(min(ends, request.ends_at.timestamp()) if request.ends_at else ends)


def ours(instances: Iterable[Instance], word: str) -> list[Instance]:
    """Those of ``instances`` that the home with ``word`` has rented, the one to keep of each key first."""
    found = [each for each in instances if word and _is_marked(each, word)]
    return sorted(found, key=lambda each: (each.state is State.SHUTTING_DOWN, each.launched_at, each.id))


def _is_marked(instance: Instance, word: str) -> bool:
    key = instance.tags.get(KEY)
    return bool(key) and instance.tags.get(OWNER) == word and instance.tags.get("Name") == name_of(str(key))


def lease_of(instance: Instance) -> Lease:
    """The lease that an instance of ours stands for: the same whoever makes it, since all of it comes from its tags."""
    tags = instance.tags
    details = {
        "offer": tags.get(OFFER, ""),
        "region": instance.region,
        "place": instance.zone,
        "spot": instance.spot,
        "gpus": list(range(_whole(tags.get(GPUS, "")))),
        "max_seconds": _whole(tags.get(MAX_SECONDS, "")),
        "ends_at": _whole(tags.get(ENDS_AT, "")),
        "stage_micros": _whole(tags.get(STAGE, "")),
        "jobs": vm.PLACE_FOR_JOBS,
        "environments": f"{vm.PLACE_FOR_JOBS}/environments",
        "input_cache": f"{vm.PLACE_FOR_JOBS}/inputs",
        "python": "python3",
        "stop": vm.stop_commands(),
    }
    return Lease(tags[KEY], NAME, instance.id, instance.launched_at, details)


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def fate_of(instance: Instance | None) -> Fate:
    """What became of an instance; None stands for one that AWS does not know."""
    if instance is None:
        return Fate.GONE
    if instance.state in (State.PENDING, State.RUNNING):
        return Fate.ALIVE
    return Fate.PREEMPTED if instance.reason == SPOT_TAKEN_BACK else Fate.ENDED


def over_words(lease: Lease, instance: Instance | None, fate: Fate) -> str:
    """That a lease's instance is over, and how that came."""
    if instance is None:
        return f"instance {lease.id} does not exist any more"
    how = "was taken back by AWS" if fate is Fate.PREEMPTED else "ended by itself"
    return f"instance {lease.id} {how}: it is {instance.state.value} ({instance.reason})"
