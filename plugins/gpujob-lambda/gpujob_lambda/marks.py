"""Whose machine it is, and what it was told at its birth: all of it in its tags, which Lambda gives back in each list.

A machine is ours if its tags hold the random word of this home and the key that goes with its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from backends.base import Lease, LeaseRequest
from backends.rented import vm
from backends.units import format_usd
from gpujob_lambda.replies import Instance, Status
from gpujob_lambda.settings import NAME

PREFIX = "gpujob-"
KEY, OWNER, OFFER = "gpujob-key", "gpujob-owner", "gpujob-offer"
ASKED_AT, ENDS_AT, MOST = "gpujob-asked-at", "gpujob-ends-at", "gpujob-most-micros-per-hour"

GONE = (Status.TERMINATED, Status.PREEMPTED)
"""It costs nothing any more."""


def tags(request: LeaseRequest, word: str, asked_at: datetime) -> dict[str, str]:
    """What marks the machine of ``request``; ``asked_at`` is by Lambda's clock."""
    return {
        KEY: request.key,
        OWNER: word,
        OFFER: request.offer.name,
        ASKED_AT: str(int(asked_at.timestamp())),
        ENDS_AT: str(ends_at(request, asked_at)),
        MOST: str(request.offer.micros_per_hour),
    }


def ends_at(request: LeaseRequest, asked_at: datetime) -> int:
    """When the reservation is used up, in Unix seconds: the earlier of the two ends that a request has."""
    ends = asked_at.timestamp() + request.max_seconds
    return int(min(ends, request.ends_at.timestamp()) if request.ends_at else ends)


def ours(instances: Iterable[Instance], word: str) -> list[Instance]:
    """Those that this home has rented and that may still cost something, the one to keep of each key first."""
    found = [each for each in instances if word and _is_marked(each, word) and each.status not in GONE]
    return sorted(found, key=lambda each: (each.status is Status.TERMINATING, asked_at(each), each.id))


def carrying(key: str, instances: Iterable[Instance], word: str) -> list[Instance]:
    """Those of ours that carry ``key``. More than one is a twin that a lost reply has left."""
    return [each for each in ours(instances, word) if each.tags[KEY] == key]


def _is_marked(instance: Instance, word: str) -> bool:
    return instance.tags.get(OWNER) == word and instance.name == name_of(instance.tags.get(KEY, ""))


def name_of(key: str) -> str:
    """The name of the machine that carries ``key``: 64 characters at most."""
    return (PREFIX + key)[:64]


def key_name(word: str) -> str:
    """The name of the home's SSH key in the account."""
    return PREFIX + word


def asked_at(instance: Instance) -> int:
    """When it was asked for, in Unix seconds by Lambda's clock, which does not tell when a machine was made."""
    return _whole(instance.tags, ASKED_AT)


def lease_of(instance: Instance) -> Lease:
    """The lease that a machine of ours stands for: the same whoever makes it, since all of it comes from the machine.

    Without ``stop``: a machine that switches itself off is billed on, so results may as well wait on it until its end,
    which the boot script has set.
    """
    place = vm.PLACE_FOR_JOBS
    details = {
        "offer": instance.tags.get(OFFER, ""),
        "place": instance.region,
        "gpus": list(range(instance.gpus)),
        "ends_at": _whole(instance.tags, ENDS_AT),
        "jobs": place,
        "environments": f"{place}/environments",
        "input_cache": f"{place}/inputs",
        "python": "python3",
        **_if_too_dear(instance),
    }
    created_at = datetime.fromtimestamp(asked_at(instance), UTC)
    return Lease(instance.tags[KEY], NAME, instance.id, created_at, details)


def _if_too_dear(instance: Instance) -> Mapping[str, object]:
    """What a lease says of a machine that costs more than it was offered for."""
    most = _whole(instance.tags, MOST)
    if instance.micros_per_hour <= most:
        return {}
    charged, offered = format_usd(instance.micros_per_hour), format_usd(most)
    name = instance.tags.get(OFFER)
    words = f"Lambda charges {charged}/h for {name}, which was offered for {offered}/h; it is given back"
    return {"micros_per_hour": instance.micros_per_hour, "too_dear": words}


def _whole(values: Mapping[str, str], name: str) -> int:
    text = values.get(name, "")
    return int(text) if text.isdecimal() else 0
