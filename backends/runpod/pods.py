"""What can be asked of pods, over REST v2. RunPod's own package is the other road to the same (``sdk.py``)."""

from __future__ import annotations

from typing import Protocol

from backends.runpod.client import Client
from backends.runpod.replies import Pod, read_pod, read_pods
from backends.runpod.requests import Wish, create_pod, delete_pod, get_pod, list_pods


class PodRoad(Protocol):
    """A road to the account's pods. Raises what :class:`Client` raises."""

    def pods(self) -> list[Pod]:
        """All pods of the account."""

    def pod(self, id_: str) -> Pod | None:
        """One pod; None if it does not exist."""

    def rent(self, wish: Wish) -> Pod:
        """Rent a pod on demand."""

    def terminate(self, id_: str) -> None:
        """Have a pod terminated; one that does not exist is a success."""


class RestPods:
    """Pods over REST v2."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def pods(self) -> list[Pod]:
        """See PodRoad."""
        return self._client.read(list_pods(), read_pods)

    def pod(self, id_: str) -> Pod | None:
        """See PodRoad."""
        return self._client.find(get_pod(id_), read_pod)

    def rent(self, wish: Wish) -> Pod:
        """See PodRoad."""
        return self._client.read(create_pod(wish), read_pod)

    def terminate(self, id_: str) -> None:
        """See PodRoad. A pod in a state that does not allow it (409) is looked at again by whoever asked."""
        self._client.call(delete_pod(id_), allow=(404, 409))
