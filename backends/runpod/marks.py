"""Whose pod it is. A name is no proof: anybody may call a pod ``gpujob-...``.

A pod is ours if its environment, which only its creation sets and which RunPod gives back, holds the random word of
this home, and its name is the one that goes with the key in that environment. All others are never touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backends.base import Lease, LeaseRequest
from backends.billing import price_of
from backends.rented.owner import Owner
from backends.runpod.boot import end_pod_script
from backends.runpod.catalog import NAME
from backends.runpod.replies import Pod, PodStatus
from backends.units import format_usd

PREFIX = "gpujob-"

KEY, OWNER = "GPUJOB_KEY", "GPUJOB_OWNER"
OFFER, SPOT, API = "GPUJOB_OFFER", "GPUJOB_SPOT", "GPUJOB_API"
ASKED_AT, ENDS_AT, MAX_SECONDS = "GPUJOB_ASKED_AT", "GPUJOB_ENDS_AT", "GPUJOB_MAX_SECONDS"
MOST = "GPUJOB_MOST_MICROS_PER_HOUR"
"""What an hour was reserved with: the pod says so itself, since nobody else may be left to know it."""

ROUNDING_MICROS = 500
"""RunPod shows what a pod costs an hour with three decimals."""

PLACE_FOR_JOBS = "/root/gpujob"
"""On the container's own disk with every image, and closed to others. ``/workspace`` is where RunPod mounts volumes,
network volumes among them, and some images keep files of their own there."""

OVER = (PodStatus.EXITED, PodStatus.ERROR)
"""Its container runs no more; the pod is still there and has to be deleted."""


class Marks:
    """The marks of one home; its word is made when the first pod is rented, and kept in ``root``."""

    def __init__(self, root: Path) -> None:
        self._owner = Owner(root)

    @property
    def made(self) -> bool:
        """Whether this home has ever asked for a pod."""
        return bool(self._owner.word)

    def env(self, request: LeaseRequest, asked_at: datetime, api: str, *, spot: bool) -> dict[str, str]:
        """The environment that marks a pod, and tells its guard when its time is over. No secrets."""
        ends = asked_at.timestamp() + request.max_seconds
        if request.ends_at:
            ends = min(ends, request.ends_at.timestamp())
        return {
            KEY: request.key,
            OWNER: self._owner.word_or_new(),
            OFFER: request.offer.name,
            SPOT: "1" if spot else "0",
            API: api,
            ASKED_AT: str(int(asked_at.timestamp())),
            ENDS_AT: str(int(ends)),
            MAX_SECONDS: str(int(request.max_seconds)),
            MOST: str(price_of(request.offer, request.disk_bytes or 0).hourly_micros),
        }

    def ours(self, pods: Iterable[Pod]) -> list[Pod]:
        """Those of ``pods`` that this home has rented and that still exist, the one to keep of each key first."""
        word = self._owner.word
        found = [pod for pod in pods if word and self._is_marked(pod, word) and pod.status is not PodStatus.TERMINATED]
        return sorted(found, key=lambda pod: (pod.status in OVER, created_at(pod), pod.id))

    def carrying(self, key: str, pods: Iterable[Pod]) -> list[Pod]:
        """Those of ours that carry ``key``. More than one is a twin that a lost reply has left."""
        return [pod for pod in self.ours(pods) if pod.env[KEY] == key]

    def _is_marked(self, pod: Pod, word: str) -> bool:
        key = pod.env.get(KEY)
        return bool(key) and pod.env.get(OWNER) == word and pod.name == name_of(str(key))


def name_of(key: str) -> str:
    """The name of the pod that carries ``key``."""
    return PREFIX + key


def created_at(pod: Pod) -> datetime:
    """When the pod was created: by RunPod's clock; by ours when it was asked for, where RunPod does not say."""
    if pod.created_at:
        return pod.created_at
    asked = pod.env.get(ASKED_AT, "")
    return datetime.fromtimestamp(int(asked), UTC) if asked.isdecimal() else datetime.now(UTC)


def lease_of(pod: Pod) -> Lease:
    """The lease that a pod of ours stands for: the same whoever makes it, since all of it comes from the pod."""
    key = pod.env[KEY]
    details = {
        "offer": pod.env.get(OFFER, ""),
        "place": pod.place,
        "spot": pod.env.get(SPOT) == "1",
        "gpus": list(range(pod.gpu_count)),
        "max_seconds": _whole(pod, MAX_SECONDS),
        "ends_at": _whole(pod, ENDS_AT),
        "jobs": PLACE_FOR_JOBS,
        "environments": f"{PLACE_FOR_JOBS}/environments",
        "input_cache": f"{PLACE_FOR_JOBS}/inputs",
        "python": "python3",
        "stop": [end_pod_script()],
        "stop_pid1": f"{KEY}={key}",
        **_if_too_dear(pod),
    }
    return Lease(key, NAME, pod.id, created_at(pod), details)


def _if_too_dear(pod: Pod) -> dict[str, Any]:
    """What a lease says of a pod that costs more than was reserved for: its guard would let it live too long."""
    most = _whole(pod, MOST)
    if not most or pod.micros_per_hour <= most + ROUNDING_MICROS:
        return {}
    charged, offered = format_usd(pod.micros_per_hour), format_usd(most)
    words = f"RunPod charges {charged}/h for {pod.env.get(OFFER)}, which was offered for {offered}/h; it is given back"
    return {"micros_per_hour": pod.micros_per_hour, "too_dear": words}


def asked_at(pods: Iterable[Pod]) -> list[int]:
    """When each of ``pods`` was asked for, in Unix seconds."""
    return [_whole(pod, ASKED_AT) for pod in pods]


def _whole(pod: Pod, name: str) -> int:
    text = pod.env.get(name, "")
    return int(text) if text.isdecimal() else 0
