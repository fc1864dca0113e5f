"""What goes wrong at RunPod, on demand."""

from __future__ import annotations

from tests.emulators.faultrules import ALWAYS, FaultRules
from tests.emulators.runpod import problems


class Faults(FaultRules):
    """All rules. Filters: ``gpu`` (type id), ``data_center``, ``cloud``, ``method``, ``path`` ("/v2/pods")."""

    # --- any request ---

    def server_errors(
        self,
        times: int = 1,
        status: int = 503,
        method: str | None = None,
        path: str | None = None,
        html: bool = False,
    ) -> None:
        """5xx before anything is done; with ``method="POST", path="/v2/pods"`` a create that creates nothing.

        ``html``: the answer is a gateway's page, not a problem document.
        """
        where = {"method": method, "path": path}
        self._add("reply", times, where, status=status, detail="internal server error", html=html)

    def too_many_requests(
        self, times: int = 1, retry_after: int = 1, method: str | None = None, path: str | None = None
    ) -> None:
        """429 whatever the quota says."""
        self._add(
            "reply", times, {"method": method, "path": path}, status=429, retry_after=retry_after,
            detail="rate limit exceeded for the minute window", html=False,
        )  # fmt: skip

    def lost_reply(
        self, times: int = 1, hold: float = 0.0, method: str = "POST", path: str | None = "/v2/pods"
    ) -> None:
        """The request is carried out, then the connection ends without an answer, after ``hold`` seconds of silence.

        By default that is a create: the pod exists and bills, and the client does not know. ``path="/graphql"`` too.
        """
        self._add("lost", times, {"method": method, "path": path}, hold=hold)

    # --- placement ---

    def no_capacity(
        self,
        times: int = ALWAYS,
        text: str = problems.NO_INSTANCES,
        gpu: str | None = None,
        data_center: str | None = None,
        cloud: str | None = None,
    ) -> None:
        """Creates are refused with 400 and the text; with ``data_center`` they are put elsewhere where they may be."""
        self._add(
            "no capacity", times, {"gpu": gpu, "data_center": data_center, "cloud": cloud}, text=text,
            everywhere=data_center is None,
        )  # fmt: skip

    def silent_null(self, times: int = 1) -> None:
        """A create by GraphQL gives null without an error, and no pod."""
        self._add("silent null", times, {})

    def forbidden(self, times: int = ALWAYS, gpu: str | None = None, cloud: str | None = None) -> None:
        """Creates are refused with 403: no access to that pool."""
        self._add("forbidden", times, {"gpu": gpu, "cloud": cloud})

    def refuse_start(self, times: int = 1, gpu: str | None = None) -> None:
        """Starting a stopped pod: not enough free GPUs on its host."""
        self._add("refuse start", times, {"gpu": gpu})

    def zero_gpus(self, times: int = 1, gpu: str | None = None) -> None:
        """A stopped pod that is started comes back without its GPUs, and is billed."""
        self._add("zero gpus", times, {"gpu": gpu})

    # --- what becomes of the next pods ---

    def never_ready(self, times: int = 1, gpu: str | None = None, data_center: str | None = None) -> None:
        """RUNNING, billed, ``runtime`` null for ever: an image that cannot be started."""
        self._add("never ready", times, {"gpu": gpu, "data_center": data_center})

    def stuck(self, times: int = 1, gpu: str | None = None, data_center: str | None = None) -> None:
        """STARTING for ever, and billed."""
        self._add("slow image", times, {"gpu": gpu, "data_center": data_center}, seconds=float("inf"))

    def slow_image(self, seconds: float, times: int = 1, gpu: str | None = None) -> None:
        """The image takes so long to pull: STARTING, and billed."""
        self._add("slow image", times, {"gpu": gpu}, seconds=seconds)

    def deaf_ssh(self, times: int = 1, gpu: str | None = None, data_center: str | None = None) -> None:
        """RUNNING, with a public port on which every connection is reset."""
        self._add("deaf ssh", times, {"gpu": gpu, "data_center": data_center})

    def wrong_gpu(self, times: int = 1, gpu: str | None = None) -> None:
        """The host has another GPU than the catalogue says: its driver shows a Tesla T4."""
        self._add("wrong gpu", times, {"gpu": gpu})

    def error_status(self, times: int = 1, gpu: str | None = None, data_center: str | None = None) -> None:
        """The pod ends in ERROR instead of RUNNING."""
        self._add("error status", times, {"gpu": gpu, "data_center": data_center})

    def exits(self, after: float = 0.0, times: int = 1, gpu: str | None = None) -> None:
        """The pod goes from RUNNING to EXITED by itself after so many seconds."""
        self._add("exits", times, {"gpu": gpu}, after=after)

    def preemption(self, after: float = 0.0, times: int = 1, gpu: str | None = None) -> None:
        """A spot pod is taken back so many seconds after it is RUNNING."""
        self._add("preemption", times, {"gpu": gpu}, after=after)

    def disk_full(self, size: int = 16 << 20, times: int = 1, gpu: str | None = None) -> None:
        """The pod's disk holds so many bytes, whatever was ordered."""
        self._add("disk", times, {"gpu": gpu}, size=size)

    def stale_list(self, seconds: float, times: int = 1) -> None:
        """A new pod is missing from lists for so long; asked for by its id it is there."""
        self._add("stale list", times, {}, seconds=seconds)
