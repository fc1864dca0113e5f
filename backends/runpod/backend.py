"""The lease life cycle of RunPod's pods."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from backends.base import (
    BackendError,
    Fate,
    Gone,
    Lease,
    LeaseRequest,
    Lost,
    Machine,
    Need,
    NotYetGone,
    NotYetReady,
    Offer,
    Rejected,
    SetupState,
    asked_state,
)
from backends.failpoints import failpoint
from backends.packages import first_missing
from backends.recent import Recent
from backends.rented.clocks import agreed_now, seconds_between
from backends.rented.contacts import Contacts
from backends.rented.ends import Ends
from backends.rented.unheard import Unheard
from backends.runpod import catalog, marks
from backends.runpod.market import Market
from backends.runpod.replies import Pod, PodStatus, SshEndpoint, read_bill
from backends.runpod.requests import Wish, pod_billing
from backends.runpod.settings import CREDENTIAL, SETUP_COMMAND, Settings

if TYPE_CHECKING:
    from backends.runpod.client import Client
    from backends.runpod.pods import PodRoad

LISTING_SECONDS = 2.0
"""Jobs that wait for their pods share one listing: many at once must not use up the rate limit."""

PROFILE = "/etc/rp_environment"
"""Where a pod's environment is: sshd's sessions do not have it."""

_EXTRA_OF = {"httpx": "runpod", "paramiko": "runpod", "runpod": "runpod-sdk"}


class RunpodBackend:
    """RunPod's secure and community clouds, with spot and CPU pods."""

    name = catalog.NAME
    credential = CREDENTIAL

    def __init__(self, root: Path, settings: Settings) -> None:
        self._settings = settings
        self._marks = marks.Marks(root)
        self._ends = Ends(root)
        self._unheard = Unheard(root, settings.list_lag, "a pod", "RunPod")
        self._market = Market(settings, lambda: self._client)
        self._contacts = Contacts(root)
        self._opening = Lock()
        self._opened: Client | None = None
        self._listing: Recent[list[Pod]] = Recent(LISTING_SECONDS, time.monotonic)

    def offers(self, need: Need) -> Iterable[Offer]:
        """What is in stock now. Without a key: what the dated table says there was, not to be rented from here."""
        count = need.gpu.count if need.gpu else 1
        if missing := self._lacking():
            return list(catalog.dated_offers(count, self._settings, missing))
        return self._market.offers(count)

    # life cycle

    def create(self, request: LeaseRequest) -> Lease:
        """Rent the pod, unless one carries the key already; of twins the oldest is kept.

        Raises AuthError before a key is set up, Rejected where the clocks disagree, and Lost where a pod may have been
        rented though no good reply came: nothing more is rented for the key then until lists show what there is.
        """
        self._settings.key()
        target = catalog.target_of(request.offer.name)
        if target is None or request.max_seconds < 1:
            raise Rejected(
                f"{request.offer.name!r} for {request.max_seconds:g} s is nothing that RunPod could rent out"
            )
        if pod := self._the_one(request.key):
            return marks.lease_of(pod)
        asked_at = agreed_now(self._client.now(), "RunPod")
        env = self._marks.env(request, asked_at, self._settings.api, spot=target.spot)
        wish = self._market.wish(request, target, {**env, "PUBLIC_KEY": self._contacts.public_key()})
        with self._unheard.asking(request.key, asked_at):
            pod = self._rent(wish)
            failpoint("runpod.create:rented")
        return marks.lease_of(pod)

    def _rent(self, wish: Wish) -> Pod:
        if wish.bid_micros is None:
            return self._road.rent(wish)
        from backends.runpod.spot import rent_spot

        pod = rent_spot(self._client, wish)
        with suppress(BackendError):  # the reply of GraphQL lacks what REST tells; without it the lease is as good
            return self._road.pod(pod.id) or pod
        return pod

    def find(self, key: str) -> Lease | None:
        """The pod that carries ``key``; of twins the oldest, and the others are terminated. Raises Lost as `create`."""
        pod = self._the_one(key)
        return marks.lease_of(pod) if pod else None

    def owned(self) -> Iterable[Lease]:
        """Every pod that this home has rented. Raises AuthError without a key, unless it has never rented any."""
        if not self._marks.made:
            return []
        return [marks.lease_of(pod) for pod in self._marks.ours(self._pods())]

    def delete(self, lease: Lease) -> None:
        """Terminate the pod, and any twin. Raises NotYetGone while RunPod still has one, or may have."""
        doubt = self._unheard.doubt(lease.key, self._now)
        there = self._all_of(lease)
        for pod in there:
            self._road.terminate(pod.id) if pod.id == lease.id else self._end_twin(pod)
        failpoint("runpod.delete:asked")
        if there and (left := self._all_of(lease)):
            raise NotYetGone(f"RunPod still has pod {left[0].id}, as {left[0].status.value}")
        self._contacts.forget(lease)
        ran = any(pod.id == lease.id and pod.status not in marks.OVER for pod in there)
        self._ends.note(lease.key, self._held_at_its_end(lease, ran=ran))
        if doubt and not self._unheard.answered(lease.key, marks.asked_at(there)):
            raise NotYetGone(f"pod {lease.id} is gone, but {doubt}")
        self._unheard.forget(lease.key)

    def _all_of(self, lease: Lease) -> list[Pod]:
        """The lease's pod and its twins, as far as they exist. A listing may lag behind: the pod is asked for by id."""
        pods = self._pods()
        own = next((pod for pod in pods if pod.id == lease.id), None) or self._road.pod(lease.id)
        found = {pod.id: pod for pod in (own, *self._marks.carrying(lease.key, pods)) if pod}
        return [pod for pod in found.values() if pod.status is not PodStatus.TERMINATED]

    def _held_at_its_end(self, lease: Lease, *, ran: bool) -> float:
        """Seconds until now; a pod that had ended before did so when its guard let it, at the latest."""
        held = seconds_between(lease.created_at, self._now())
        most = lease.details.get("max_seconds") or held
        return held if ran else min(held, float(most))

    def connect(self, lease: Lease) -> Machine:
        """Reach the pod's sshd. The port is another one after every start, so it is read anew each time."""
        pod = self._looked_at(lease)
        ssh = _endpoint_or_why_not(pod, lease)
        return self._contacts.reach(
            lease, _pin(pod), ssh.host, ssh.port, user=ssh.user, place=marks.PLACE_FOR_JOBS, profile=PROFILE
        )

    def _looked_at(self, lease: Lease) -> Pod:
        """The pod as it is now; twins that have appeared since are terminated. Raises Gone."""
        pods = self._listing.get(self._road.pods)
        for twin in self._marks.carrying(lease.key, pods):
            if twin.id != lease.id:
                self._end_twin(twin)
        pod = next((pod for pod in pods if pod.id == lease.id), None) or self._road.pod(lease.id)
        if pod is None or pod.status is PodStatus.TERMINATED:
            raise Gone(f"pod {lease.id} does not exist any more", Fate.GONE)
        return pod

    # what the provider can tell

    def held_seconds(self, lease: Lease) -> float | None:
        """By RunPod's clock, from the pod's creation until it was gone or until now, and the same of its twins; None if
        its clock is unknown.
        """
        held = self._ends.held_seconds(lease.key)
        if held is None:
            now = self._provider_now()
            held = seconds_between(lease.created_at, now) if now else None
        return None if held is None else held + self._ends.twins_seconds(lease.key)

    def settled(self, lease: Lease) -> None:
        """The pod is accounted for."""
        self._ends.forget(lease.key)

    def billed_micros(self, lease: Lease) -> int | None:
        """What RunPod's account shows for the pod; hours are added to it for some time after its end."""
        return self._client.read(pod_billing(lease.id, lease.created_at), read_bill)

    def fate(self, lease: Lease) -> Fate:
        """What became of the pod."""
        pod = self._road.pod(lease.id)
        return _fate(pod, lease) if pod else Fate.GONE

    def try_key(self, key: str) -> list[str]:
        """The account's balance and limits, as far as the key may see them. Raises AuthError where it is refused."""
        from backends.runpod.account import account_lines

        return account_lines(self._new_client(lambda: key))

    def setup_state(self) -> SetupState:
        """Whether there is a key that RunPod accepts: one free call."""
        if package := self._missing_package():
            return SetupState(False, "not installed", f"the Python package {package}", _install(package))
        if not self._settings.credential():
            return SetupState(False, "no API key", "an API key of a RunPod account", SETUP_COMMAND)
        return asked_state("RunPod", "the API key is refused", self._summary)

    def _summary(self) -> str:
        count = len(self._marks.ours(self._pods()))
        return f"the API key is accepted, {count} pods of this home, by {self._settings.client}"

    # inside

    @property
    def _client(self) -> Client:
        """One for all threads: they share its rate limit."""
        with self._opening:
            if self._opened is None:
                self._opened = self._new_client(self._settings.key)
            return self._opened

    def _new_client(self, key: Callable[[], str]) -> Client:
        if package := self._missing_package():
            raise Rejected(f"RunPod needs the Python package {package!r}", advice=_install(package))
        from backends.runpod.client import Client

        return Client(self._settings.api, key)

    @property
    def _road(self) -> PodRoad:
        if self._settings.client == "rest":
            from backends.runpod.pods import RestPods

            return RestPods(self._client)
        from backends.runpod.sdk import SdkPods

        return SdkPods(self._settings.api, self._settings.key)

    def _missing_package(self) -> str | None:
        needed = ["httpx", "paramiko"] + ["runpod"] * (self._settings.client == "sdk")
        return first_missing(needed)

    def _lacking(self) -> str:
        """What has to be set up before anything can be rented, in words; empty if nothing has."""
        if package := self._missing_package():
            return f"RunPod needs the Python package {package}: {_install(package)}"
        return "" if self._settings.credential() else f"RunPod has no API key: {SETUP_COMMAND}"

    def _pods(self) -> list[Pod]:
        return self._listing.fresh(self._road.pods)

    def _the_one(self, key: str) -> Pod | None:
        """The pod to keep of those that carry ``key``; the others are terminated. Raises Lost where none is listed, but
        one that was asked for may be there.
        """
        doubt = self._unheard.doubt(key, self._now)
        found = self._marks.carrying(key, self._pods())
        for twin in found[1:]:
            self._end_twin(twin)
        if found:
            self._unheard.answered(key, marks.asked_at(found))
            return found[0]
        if doubt:
            raise Lost(doubt)
        self._unheard.forget(key)
        return None

    def _end_twin(self, twin: Pod) -> None:
        """Terminate a pod that a lost reply has left; its time is noted first, since it costs money as well."""
        self._ends.note_twin(twin.env[marks.KEY], twin.id, seconds_between(marks.created_at(twin), self._now()))
        self._road.terminate(twin.id)

    def _now(self) -> datetime:
        """RunPod's clock; ours where it cannot be asked."""
        return self._provider_now() or datetime.now(UTC)

    def _provider_now(self) -> datetime | None:
        if self._client.now() is None:
            with suppress(BackendError):  # whoever cannot be asked has no clock to read
                self._listing.get(self._road.pods)
        return self._client.now()


def _endpoint_or_why_not(pod: Pod, lease: Lease) -> SshEndpoint:
    """Where sshd is. Raises Gone for a pod that is over, NotYetReady with what it is waiting for."""
    if pod.status in marks.OVER:
        fate = _fate(pod, lease)
        how = "was taken back by RunPod" if fate is Fate.PREEMPTED else "ended by itself"
        raise Gone(f"pod {pod.id} {how}: it is {pod.status.value}", fate)
    if pod.status is not PodStatus.RUNNING:
        raise NotYetReady(f"pod {pod.id} is {pod.status.value}: a host is found, its image is loaded")
    if not pod.up:
        raise NotYetReady(
            f"pod {pod.id} is said to run, but its container does not: its image may be missing or too large for its "
            "disk, or need a newer driver"
        )
    if pod.ssh is None:
        raise NotYetReady(f"pod {pod.id} runs, but has no public port for SSH yet")
    return pod.ssh


def _fate(pod: Pod, lease: Lease) -> Fate:
    if pod.status is PodStatus.TERMINATED:
        return Fate.GONE
    if pod.status not in marks.OVER:
        return Fate.ALIVE
    return Fate.PREEMPTED if lease.details.get("spot") else Fate.ENDED


def _pin(pod: Pod) -> str:
    """The name under which its host key is pinned: every start of a container makes new ones."""
    return f"runpod {pod.id} {pod.start}".strip()


def _install(package: str) -> str:
    return f"pip install 'gpujob[{_EXTRA_OF[package]}]'"
