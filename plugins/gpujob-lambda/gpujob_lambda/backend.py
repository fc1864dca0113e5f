"""The lease life cycle of Lambda's machines."""

from __future__ import annotations

import importlib.util
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
    NoCapacity,
    NotYetGone,
    NotYetReady,
    Offer,
    Rejected,
    SetupState,
    asked_state,
)
from backends.failpoints import failpoint
from backends.recent import Recent
from backends.rented import vm
from backends.rented.clocks import agreed_now, seconds_between
from backends.rented.contacts import Contacts
from backends.rented.ends import Ends
from backends.rented.owner import Owner
from backends.rented.unheard import Unheard
from backends.units import format_usd
from gpujob_lambda import catalog, marks, requests
from gpujob_lambda.replies import (
    Instance,
    Status,
    read_instance,
    read_instances,
    read_keys,
    read_launched,
    read_types,
)
from gpujob_lambda.settings import ACCEPT_COMMAND, CREDENTIAL, NAME, SETUP_COMMAND, Settings

if TYPE_CHECKING:
    from gpujob_lambda.client import Client

LISTING_SECONDS = 2.0
"""Jobs that wait for their machines share one listing: Lambda takes one request a second."""

_INSTALL = "pip install httpx paramiko"


class LambdaBackend:
    """Lambda's on-demand machines."""

    name = NAME
    credential = CREDENTIAL

    def __init__(self, root: Path, settings: Settings) -> None:
        self._settings = settings
        self._owner = Owner(root)
        self._ends = Ends(root)
        self._unheard = Unheard(root, settings.list_lag, "a machine", "Lambda")
        self._contacts = Contacts(root)
        self._opening = Lock()
        self._opened: Client | None = None
        self._listing: Recent[list[Instance]] = Recent(LISTING_SECONDS, time.monotonic)

    # offers

    def offers(self, need: Need) -> Iterable[Offer]:
        """What is free now. Without a key: what the dated table says there was, not to be rented from here."""
        del need
        if lacking := self._lacking():
            return list(catalog.dated_offers(lacking))
        types = self._client.ask(requests.list_types(), read_types)
        today = datetime.now(UTC).date().isoformat()
        return list(catalog.live_offers(types, self._settings.regions, today, self._not_accepted()))

    # life cycle

    def create(self, request: LeaseRequest) -> Lease:
        """Rent the machine, unless one carries the key already; of twins the oldest is kept.

        Raises AuthError before a key is set up, Rejected where the user has not accepted that nothing ends it or where
        the clocks disagree, NoCapacity, and Lost where a machine may have been rented though no good reply came.
        """
        self._settings.key()
        if refusal := self._not_accepted():
            raise Rejected(refusal)
        if request.max_seconds < 1:
            raise Rejected(f"{request.max_seconds:g} s is nothing that Lambda could rent out")
        if there := self._the_one(request.key):
            return marks.lease_of(there)
        region = self._free_region(request)
        asked_at = agreed_now(self._client.now(), "Lambda")
        wish = self._wish(request, region, asked_at)
        try:
            with self._unheard.asking(request.key, asked_at):
                id_ = self._rent(wish)
        except (NoCapacity, Rejected):
            self._drop_key()
            raise
        return marks.lease_of(self._just_made(id_, wish, request))

    def _rent(self, wish: requests.Wish) -> str:
        self._ensure_key(wish.ssh_key)
        id_ = self._client.ask(requests.launch(wish), read_launched)
        failpoint("lambda.create:rented")
        return id_

    def _free_region(self, request: LeaseRequest) -> str:
        """Where one is free now, at no more than was offered. Raises NoCapacity."""
        types = self._client.ask(requests.list_types(), read_types)
        found = next((each for each in types if each.name == request.offer.name), None)
        wanted = [region for region in found.regions if self._wants(region)] if found else []
        if found is None or not wanted:
            raise NoCapacity(f"Lambda has no {request.offer.name} free")
        if found.micros_per_hour > request.offer.micros_per_hour:
            prices = format_usd(found.micros_per_hour), format_usd(request.offer.micros_per_hour)
            raise NoCapacity("Lambda charges {}/h by now for what it offered for {}/h".format(*prices))
        left = [region for region in wanted if region not in request.avoid]
        if not left:
            raise NoCapacity(f"{request.offer.name} is free only in {', '.join(wanted)}, which is avoided for now")
        return left[0]

    def _wants(self, region: str) -> bool:
        return not self._settings.regions or region in self._settings.regions

    def _wish(self, request: LeaseRequest, region: str, asked_at: datetime) -> requests.Wish:
        word = self._owner.word_or_new()
        script = vm.boot_script(
            key=request.key,
            ends_at=marks.ends_at(request, asked_at),
            max_seconds=int(request.max_seconds),
            public_key=self._contacts.public_key(),
        )
        return requests.Wish(
            name=marks.name_of(request.key),
            type=request.offer.name,
            region=region,
            ssh_key=marks.key_name(word),
            user_data=script,
            tags=marks.tags(request, word, asked_at),
        )

    def _just_made(self, id_: str, wish: requests.Wish, request: LeaseRequest) -> Instance:
        """The new machine as Lambda tells it; as it was wished, where Lambda does not know it yet."""
        with suppress(BackendError):
            if found := self._client.find(requests.get_instance(id_), read_instance):
                return found
        rate, gpus = request.offer.micros_per_hour, request.offer.gpu_count
        return Instance(id_, wish.name, Status.BOOTING, "", wish.region, rate, gpus, wish.tags)

    def find(self, key: str) -> Lease | None:
        """The machine that carries ``key``; of twins the oldest, and the others are ended. Raises Lost as `create`."""
        there = self._the_one(key)
        return marks.lease_of(there) if there else None

    def owned(self) -> Iterable[Lease]:
        """Every machine that this home has rented. Raises AuthError without a key, unless it has never rented any."""
        if not self._owner.word:
            return []
        return [marks.lease_of(each) for each in marks.ours(self._instances(), self._owner.word)]

    def delete(self, lease: Lease) -> None:
        """Terminate the machine, and any twin. Raises NotYetGone while Lambda still has one, or may have."""
        doubt = self._unheard.doubt(lease.key, self._now)
        there = self._all_of(lease)
        for each in there:
            self._end(each) if each.id == lease.id else self._end_twin(each)
        failpoint("lambda.delete:asked")
        if there and (left := self._all_of(lease)):
            raise NotYetGone(f"Lambda still has machine {left[0].id}, as {left[0].status.value}")
        self._contacts.forget(lease)
        self._ends.note(lease.key, seconds_between(lease.created_at, self._now()))
        if doubt and not self._unheard.answered(lease.key, map(marks.asked_at, there)):
            raise NotYetGone(f"machine {lease.id} is gone, but {doubt}")
        self._unheard.forget(lease.key)
        self._drop_key()

    def _all_of(self, lease: Lease) -> list[Instance]:
        """The lease's machine and its twins, as far as they exist. A listing may lag: it is asked for by id as well."""
        instances = self._instances()
        own = next((each for each in instances if each.id == lease.id), None) or self._one(lease.id)
        found = {each.id: each for each in (own, *self._carrying(lease.key, instances)) if each}
        return [each for each in found.values() if each.status not in marks.GONE]

    def connect(self, lease: Lease) -> Machine:
        """Reach the machine's sshd as root, by the key that its boot script has let in."""
        instance = self._looked_at(lease)
        if instance.status is not Status.ACTIVE or not instance.ip:
            raise NotYetReady(f"machine {lease.id} is {instance.status.value}")
        return self._contacts.reach(
            lease, f"lambda {lease.id}", instance.ip, self._settings.ssh_port, place=vm.PLACE_FOR_JOBS
        )

    def _looked_at(self, lease: Lease) -> Instance:
        """The machine as it is now; twins that have appeared since are ended. Raises Gone."""
        instances = self._listing.get(self._read_instances)
        for twin in self._carrying(lease.key, instances):
            if twin.id != lease.id:
                self._end_twin(twin)
        found = next((each for each in instances if each.id == lease.id), None) or self._one(lease.id)
        fate = _fate(found)
        if found is None or fate is not Fate.ALIVE:
            raise Gone(f"machine {lease.id} is {found.status.value if found else 'not there any more'}", fate)
        return found

    # what the provider can tell

    def fate(self, lease: Lease) -> Fate:
        """What became of the machine. One that has switched itself off is alive: it costs as much as before."""
        return _fate(self._one(lease.id))

    def held_seconds(self, lease: Lease) -> float | None:
        """By Lambda's clock, from the request until the machine was gone or until now, and the same of its twins."""
        held = self._ends.held_seconds(lease.key)
        if held is None:
            held = seconds_between(lease.created_at, self._now())
        return held + self._ends.twins_seconds(lease.key)

    def settled(self, lease: Lease) -> None:
        """The machine is accounted for."""
        self._ends.forget(lease.key)

    def try_key(self, key: str) -> list[str]:
        """What the account has. Raises AuthError where the key is refused."""
        count = len(self._new_client(lambda: key).ask(requests.list_instances(), read_instances))
        return [f"the key is accepted; the account has {count} machine{'' if count == 1 else 's'}"]

    def setup_state(self) -> SetupState:
        """Whether there is a key that Lambda accepts (one free call), and whether its risk is accepted."""
        if self._missing_package():
            return SetupState(False, "not installed", f"the Python package {self._missing_package()}", _INSTALL)
        if not self._settings.credential():
            return SetupState(False, "no API key", "an API key of a Lambda account", SETUP_COMMAND)
        if self._not_accepted():
            missing = f"your consent to this: {catalog.CAVEAT}"
            return SetupState(False, "its risk is not accepted", missing, ACCEPT_COMMAND)
        return asked_state("Lambda", "the API key is refused", self._summary)

    def _summary(self) -> str:
        count = len(marks.ours(self._instances(), self._owner.word))
        return f"the API key is accepted, {count} machines of this home"

    # inside

    @property
    def _client(self) -> Client:
        """One for all threads: they share its pace."""
        with self._opening:
            if self._opened is None:
                self._opened = self._new_client(self._settings.key)
            return self._opened

    def _new_client(self, key: Callable[[], str]) -> Client:
        if package := self._missing_package():
            raise Rejected(f"Lambda needs the Python package {package!r}", advice=_INSTALL)
        from gpujob_lambda.client import Client

        return Client(self._settings.api, key, self._settings.pace)

    def _missing_package(self) -> str | None:
        return next((name for name in ("httpx", "paramiko") if importlib.util.find_spec(name) is None), None)

    def _lacking(self) -> str:
        """What has to be set up before Lambda can be asked, in words; empty if nothing has."""
        if package := self._missing_package():
            return f"Lambda needs the Python package {package}: {_INSTALL}"
        return "" if self._settings.credential() else f"Lambda has no API key: {SETUP_COMMAND}"

    def _not_accepted(self) -> str:
        """Why nothing may be rented though it could be; empty once the user has accepted it."""
        return "" if self._settings.accept_no_end else f"{catalog.CAVEAT}; if you accept that: {ACCEPT_COMMAND}"

    def _instances(self) -> list[Instance]:
        return self._listing.fresh(self._read_instances)

    def _read_instances(self) -> list[Instance]:
        return self._client.ask(requests.list_instances(), read_instances)

    def _one(self, id_: str) -> Instance | None:
        return self._client.find(requests.get_instance(id_), read_instance)

    def _carrying(self, key: str, instances: list[Instance]) -> list[Instance]:
        return marks.carrying(key, instances, self._owner.word)

    def _the_one(self, key: str) -> Instance | None:
        """The machine to keep of those that carry ``key``; the others are ended. Raises Lost where none is listed, but
        one that was asked for may be there.
        """
        doubt = self._unheard.doubt(key, self._now)
        found = self._carrying(key, self._instances())
        for twin in found[1:]:
            self._end_twin(twin)
        if found:
            self._unheard.answered(key, map(marks.asked_at, found))
            return found[0]
        if doubt:
            raise Lost(doubt)
        if self._unheard.any:
            self._unheard.forget(key)
            self._drop_key()
        return None

    def _end(self, instance: Instance) -> None:
        if instance.status is not Status.TERMINATING:
            self._client.find(requests.terminate(instance.id), lambda _: True)

    def _end_twin(self, twin: Instance) -> None:
        """End a machine that a lost reply has left; its time is noted first, since it costs money as well."""
        asked_at = datetime.fromtimestamp(marks.asked_at(twin), UTC)
        self._ends.note_twin(twin.tags[marks.KEY], twin.id, seconds_between(asked_at, self._now()))
        self._end(twin)

    def _ensure_key(self, name: str) -> None:
        """A launch has to name a key of the account. This one opens nothing: its private half is thrown away at once.

        Ours comes by user data alone. Were it the same, cloud-init would have put it before that with a command of its
        own, which refuses root.
        """
        if not any(key.name == name for key in self._client.ask(requests.list_keys(), read_keys)):
            self._client.ask(requests.add_key(name, _unusable_key()), lambda _: True)
            failpoint("lambda.create:key")

    def _drop_key(self) -> None:
        """Take our key out of the account once no machine of this home is there or on its way."""
        word = self._owner.word
        if self._unheard.any or marks.ours(self._instances(), word):
            return
        for key in self._client.ask(requests.list_keys(), read_keys):
            if key.name == marks.key_name(word):
                self._client.find(requests.delete_key(key.id), lambda _: True)

    def _now(self) -> datetime:
        """Lambda's clock; ours where it cannot be asked."""
        if self._client.now() is None:
            with suppress(BackendError):
                self._listing.get(self._read_instances)
        return self._client.now() or datetime.now(UTC)


def _fate(instance: Instance | None) -> Fate:
    if instance is None or instance.status in (Status.TERMINATED, Status.TERMINATING):
        return Fate.GONE
    return Fate.PREEMPTED if instance.status is Status.PREEMPTED else Fate.ALIVE


def _unusable_key() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
