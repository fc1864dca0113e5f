"""The road through RunPod's own package: ``gpujob config set runpod.client sdk``.

Facts of runpod 1.12 that are answered here: the key and the address are process-wide; values are pasted into the query
unescaped, so a double quote breaks it; a refusal may come back as None, as a KeyError or as whatever ``requests``
raises; creation tells neither price nor state, so the pod is looked at afterwards. CPU pods always get RunPod's own
image there, so they are not offered on this road.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import Any

from backends.base import BackendError, Lost, Rejected, Transient
from backends.rented.calls import Malformed, Request
from backends.runpod.boot import one_argument
from backends.runpod.replies import Pod, no_such_pod, read_graphql_pod, refusal, status_of
from backends.runpod.requests import SSH_PORT, Wish
from backends.runpod.settings import API_VARIABLE

CUDA_VERSIONS = tuple(f"{major}.{minor}" for major, minors in ((11, 9), (12, 10), (13, 4)) for minor in range(minors))
"""The package knows no "at least": every version that may exist is named (11.0 to 13.3, 2026-11)."""

_one_at_a_time = Lock()


class SdkPods:
    """Pods by the ``runpod`` package. Raises what :class:`Client` raises."""

    def __init__(self, api: str, key: Callable[[], str]) -> None:
        self._api = api
        self._key = key

    def pods(self) -> list[Pod]:
        """See PodRoad."""
        found = self._call("listing pods", lambda runpod: runpod.get_pods())
        return [self._read("listing pods", pod) for pod in found or ()]

    def pod(self, id_: str) -> Pod | None:
        """See PodRoad."""
        doing = f"looking at pod {id_}"
        found = self._call(doing, lambda runpod: runpod.get_pod(id_))
        return self._read(doing, found) if found else None

    def rent(self, wish: Wish) -> Pod:
        """See PodRoad."""
        words = arguments(wish)
        doing = f"renting {wish.name}"
        made = self._call(doing, lambda runpod: runpod.create_pod(**words), rents=True)
        if not isinstance(made, dict) or not made.get("id"):
            raise Lost(f"{doing}: the runpod package answers with nothing")
        if pod := self.pod(str(made["id"])):
            return pod
        raise Lost(f"{doing}: pod {made['id']} is not listed yet")

    def terminate(self, id_: str) -> None:
        """See PodRoad."""
        try:
            self._call(f"terminating pod {id_}", lambda runpod: runpod.terminate_pod(id_))
        except Rejected as error:
            if not no_such_pod(str(error)):
                raise

    def _read(self, doing: str, value: Any) -> Pod:
        try:
            return read_graphql_pod(value)
        except Malformed as error:
            raise Transient(f"{doing}: the runpod package's answer makes no sense: {error}") from None

    def _call(self, doing: str, call: Callable[[Any], Any], *, rents: bool = False) -> Any:
        """What ``call`` gives; the package's ways to fail become ours."""
        key = self._key()
        with _one_at_a_time:
            import runpod

            runpod.api_key = key
            os.environ[API_VARIABLE] = self._api
            try:
                return call(runpod)
            except Exception as error:  # the package has no common error class
                found = meaning(Request("POST", "/graphql", doing, rents=rents), error)
        found.args = (str(found).replace(key, "***"),)
        raise found


def meaning(request: Request, error: Exception) -> BackendError:
    """What an exception of the package, or of ``requests`` below it, means. Told by name: neither is loaded here."""
    kind, said = type(error).__name__, str(error)
    if kind == "AuthenticationError":
        return refusal(request, 401, said)
    if kind == "QueryError":
        return refusal(request, status_of(said), said)
    if kind == "ValueError":
        return Rejected(f"{request.doing}: {said}")
    if kind == "KeyError":  # 402, 403, 410 and 429 all end so, and nothing says which it was
        return Transient(
            f"{request.doing}: RunPod refused it, and the runpod package does not say why",
            advice="The other road tells: gpujob config set runpod.client rest",
        )
    words = f"{request.doing}: {kind}: {said}"[:500]
    nothing_sent = kind in ("ConnectTimeout", "ConnectionError") and "refused" in said.lower()
    return Lost(words) if request.rents and not nothing_sent else Transient(words)


def arguments(wish: Wish) -> dict[str, Any]:
    """The arguments of ``runpod.create_pod``. Raises Rejected for what breaks its query or cannot be said in it."""
    texts = (wish.name, wish.image, *wish.env, *wish.env.values())
    if broken := next((text for text in texts if any(sign in text for sign in '"\\\n')), None):
        raise Rejected(
            f"{broken[:80]!r} holds a quote, a backslash or a newline, which the runpod package cannot send",
            advice="Rename it, or use the other road: gpujob config set runpod.client rest",
        )
    if wish.cpu:
        raise Rejected(
            "the runpod package rents CPU pods with RunPod's own image only",
            advice="Use the other road: gpujob config set runpod.client rest",
        )
    return {
        "name": wish.name,
        "image_name": wish.image,
        "gpu_type_id": wish.gpu,
        "gpu_count": wish.gpu_count,
        "cloud_type": wish.cloud,
        "data_center_id": wish.data_centers[0] if wish.data_centers else None,
        "container_disk_in_gb": wish.disk_gb,
        "min_memory_in_gb": max(wish.min_ram_per_gpu_gb * wish.gpu_count, 1),
        "docker_args": one_argument(wish.boot),
        "ports": SSH_PORT,
        "env": dict(wish.env),
        "allowed_cuda_versions": at_least(wish.min_cuda) if wish.min_cuda else None,
    }


def at_least(version: str) -> list[str]:
    """The CUDA versions from ``version`` on, compared as numbers: 12.10 comes after 12.9."""
    return [each for each in CUDA_VERSIONS if _numbers(each) >= _numbers(version)]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
