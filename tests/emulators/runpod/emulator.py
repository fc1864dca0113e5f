"""The emulated provider as tests use it."""

from __future__ import annotations

import signal
from typing import Any

from backends.runner import runner
from tests.emulators.clock import Clock
from tests.emulators.faultproxy import FaultProxy
from tests.emulators.runpod.billing import Amounts
from tests.emulators.runpod.faults import Faults
from tests.emulators.runpod.fleet import Fleet
from tests.emulators.runpod.pods import Pod
from tests.emulators.runpod.server import Call, Server
from tests.emulators.runpod.settings import Settings


class RunPodEmulator:
    """RunPod on ``url``: REST below ``/v2``, GraphQL at ``/graphql``, pods that are real machines on ``127.0.0.1``.

        with RunPodEmulator(memory_scale=0.004) as cloud:
            cloud.faults.no_capacity(times=1)
            ...                                     # rent from cloud.url with cloud.key
            assert not cloud.pods()
            assert cloud.spent() < 3

    Keyword arguments are those of :class:`Settings`. Leaving the block terminates every pod and leaves nothing behind.
    """

    def __init__(self, *, port: int = 0, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.catalog = self.settings.catalog
        self.clock = Clock()
        self.faults = Faults()
        self.fleet = Fleet(self.settings, self.clock, self.faults)
        self._server = Server(self.fleet, port)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.fleet.api = self.url

    def __enter__(self) -> RunPodEmulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def key(self) -> str:
        """The account's API key."""
        return self.settings.key

    @property
    def created(self) -> list[Pod]:
        """Every pod that there ever was."""
        return list(self.fleet.created)

    @property
    def requests(self) -> list[Call]:
        """Every request so far, as it was answered."""
        with self._server.lock:
            return list(self._server.calls)

    @property
    def account_keys(self) -> list[str]:
        """The account's SSH keys, which nobody but the account's owner should change."""
        return self.fleet.account_keys

    def pods(self) -> list[Pod]:
        """Pods that are not terminated: what could still cost something."""
        return self.fleet.pods()

    def pod(self, pod_id: str) -> Pod:
        """A pod, terminated or not. Raises KeyError."""
        return {pod.id: pod for pod in self.created}[pod_id]

    def ssh(self, pod_id: str) -> FaultProxy:
        """The network in front of a pod's sshd: cut it, stall it, slow it down."""
        return self.pod(pod_id).ssh

    def meter(self, pod_id: str) -> Amounts:
        """USD that a pod has cost until now, by the emulator's own clock."""
        return self.pod(pod_id).meter.amounts(self.clock.now())

    def spent(self) -> float:
        """USD that all pods together have cost until now."""
        return self.fleet.spent()

    def balance(self) -> float:
        """USD that are left in the account."""
        return self.fleet.balance()

    def advance(self, seconds: float) -> None:
        """Let time pass for money and rate limits; processes are not hurried."""
        self.clock.advance(seconds)

    def preempt(self, pod_id: str) -> None:
        """Take a spot pod back now."""
        self.fleet.take_back(self.pod(pod_id))

    def exit_pod(self, pod_id: str) -> None:
        """The pod's container ends now: EXITED, by itself."""
        self.fleet.exit(self.pod(pod_id))

    def change_port(self, pod_id: str) -> None:
        """The pod's public ports move now; connections are reset."""
        self.fleet.change_port(self.pod(pod_id))

    def freeze(self, pod_id: str) -> None:
        """The pod's machine hangs: every process stands still, connections stay open, the bill goes on."""
        runner.send(self.pod(pod_id).processes(), signal.SIGSTOP)

    def thaw(self, pod_id: str) -> None:
        """It goes on as if nothing had been."""
        runner.send(self.pod(pod_id).processes(), signal.SIGCONT)

    def set_gpu_use(self, pod_id: str, used_mib: int, percent: int, index: int = 0) -> None:
        """What nvidia-smi in the pod says from now on about one of its GPUs."""
        container = self.pod(pod_id).container
        assert container, "the pod is not up"
        container.set_gpu_use(index, used_mib, percent)

    def close(self) -> None:
        """Terminate every pod, stop serving."""
        self._server.stop()
        self.fleet.close()
