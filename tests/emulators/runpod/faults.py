"""What goes wrong, on demand: rules that a test adds and that calls use up, each for the next N calls that match."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.runpod import problems

ALWAYS = 1 << 30


@dataclass
class Fault:
    """One rule: ``kind`` happens to the next ``times`` calls that match every filter which is set."""

    kind: str
    times: int = 1
    where: dict[str, str] = field(default_factory=dict)
    value: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.value[name]

    def matches(self, kind: str, facts: dict[str, str | None]) -> bool:
        """Whether it applies to a call of which ``facts`` are known; a path filter also takes what is below it."""
        return (
            kind == self.kind
            and self.times > 0
            and all(_fits(name, wanted, facts.get(name)) for name, wanted in self.where.items())
        )


def _fits(name: str, wanted: str, fact: str | None) -> bool:
    return fact is not None and (fact == wanted or (name == "path" and fact.startswith(wanted.rstrip("/") + "/")))


class Faults:
    """All rules. Filters: ``gpu`` (type id), ``data_center``, ``cloud``, ``method``, ``path`` ("/v2/pods")."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def take(self, kind: str, **facts: str | None) -> Fault | None:
        """Use up one call of the first rule that applies; None where there is none."""
        with self._lock:
            for rule in self._rules:
                if rule.matches(kind, facts):
                    rule.times -= 1
                    return rule
        return None

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._rules.clear()

    def pending(self) -> int:
        """How many rules are not used up."""
        with self._lock:
            return sum(rule.times > 0 for rule in self._rules)

    def _add(self, kind: str, times: int, where: dict[str, str | None], **value: Any) -> None:
        with self._lock:
            self._rules.append(Fault(kind, times, {name: fact for name, fact in where.items() if fact}, value))

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

    def slow_replies(self, seconds: float, times: int = 1, method: str | None = None, path: str | None = None) -> None:
        """The answer comes so much later, after everything is done."""
        self._add("slow", times, {"method": method, "path": path}, seconds=seconds)

    def dropped_requests(self, times: int = 1, method: str | None = None, path: str | None = None) -> None:
        """The connection ends before anything is done."""
        self._add("drop", times, {"method": method, "path": path})

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
