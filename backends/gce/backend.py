"""The lease life cycle of Compute Engine's instances."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from backends.base import (
    AuthError,
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
from backends.gce import catalog, marks, requests
from backends.gce.asked import Asked
from backends.gce.instances import Instances
from backends.gce.market import Market
from backends.gce.network import Network
from backends.gce.renting import Renting
from backends.gce.replies import (
    Instance,
    NoneInZone,
    Operation,
    State,
)
from backends.gce.settings import Settings
from backends.packages import first_missing
from backends.recent import Recent
from backends.rented.clocks import agreed_now, seconds_between
from backends.rented.contacts import Contacts
from backends.rented.ends import Ends
from backends.rented.owner import Owner

if TYPE_CHECKING:
    from backends.gce.client import Client

LISTING_SECONDS = 2.0
"""Jobs that wait for their instances share one listing."""

SHORTEST_RUN_SECONDS = 30
"""What maxRunDuration may be at least."""

PACKAGES = ("googleapiclient", "google_auth_httplib2", "paramiko")
INSTALL = "pip install 'gpujob[gce]'"

NOTICE = """
notice() {
    preempted=http://metadata.google.internal/computeMetadata/v1/instance/preempted
    [ "$(curl -sf -m 2 -H 'Metadata-Flavor: Google' $preempted)" = TRUE ]
}
"""
"""Half a minute before a spot instance is taken back its metadata says so."""


class GceBackend:
    """Compute Engine's instances with NVIDIA GPUs, standard and spot."""

    name = catalog.NAME

    def __init__(self, root: Path, settings: Settings) -> None:
        self._settings = settings
        self._owner = Owner(root)
        self._ends = Ends(root)
        self._asked = Asked(root, settings.list_lag)
        self._contacts = Contacts(root)
        self._there = Instances(lambda: self._client, lambda: self._owner.word)
        self._renting = Renting(lambda: self._client, self._asked, self._there, self._now)
        self._market = Market(settings, lambda: self._client)
        self._network = Network(settings, lambda: self._client, self._owner.word_or_new)
        self._opening = Lock()
        self._opened: Client | None = None
        self._listing: Recent[list[Instance]] = Recent(LISTING_SECONDS, time.monotonic)

    def offers(self, need: Need) -> Iterable[Offer]:
        """What can be asked for. Not signed in: what the dated table says there is, not to be rented from here."""
        del need
        missing, how = self._lacking()
        if missing:
            return list(catalog.offers(self._settings, catalog.Quotas(), f"Compute Engine lacks {missing}: {how}"))
        try:
            return self._market.offers()
        except (AuthError, Rejected) as error:
            return list(catalog.offers(self._settings, catalog.Quotas(), f"{error}; {error.advice}"))

    # life cycle

    def create(self, request: LeaseRequest) -> Lease:
        """Rent the instance, unless one carries the key already: in the first zone of the region that has one free.

        Google says only some seconds later whether there is one; this returns when it has. Raises AuthError where
        nobody is signed in, Rejected where the clocks disagree, NoCapacity where no zone has one or the quota is used
        up, and Lost where one may have been made though no good reply came.
        """
        missing, how = self._lacking()
        if missing:
            raise AuthError(f"Compute Engine lacks {missing}", advice=f"{how}.")
        target = self._target(request)
        if there := self._the_one(request.key):
            return marks.lease_of(there)
        try:
            return marks.lease_of(self._rent_in_some_zone(request, target))
        except (NoCapacity, Rejected):
            with suppress(BackendError):  # what is left now goes when nothing else is to be done
                self._tidy()
            raise

    def _target(self, request: LeaseRequest) -> catalog.Target:
        target = catalog.target_of(request.offer.name)
        if target is None or request.max_seconds < 1:
            raise Rejected(f"{request.offer.name!r} for {request.max_seconds:g} s is nothing that Google rents out")
        if target.spot and not self._settings.spot:
            advice = "To allow them: gpujob config set gce.spot yes"
            raise Rejected("spot instances are not allowed by the settings", advice=advice)
        return target

    def _rent_in_some_zone(self, request: LeaseRequest, target: catalog.Target) -> Instance:
        refusals = []
        for zone in self._zones(request, target):
            wish = self._wish(request, target, zone)
            try:
                return self._renting.rent(wish, request.key)
            except NoneInZone as none:
                refusals.append(str(none))
            finally:
                self._network.look_again()  # whoever looked before our mark was there may have taken the rules away
        raise NoCapacity("; ".join(refusals))

    def _zones(self, request: LeaseRequest, target: catalog.Target) -> list[str]:
        """Where to ask, in order: first where an answer was lost, since its requestId finds what was made there."""
        place = self._asked.place(request.key)
        if place is None:
            return self._market.zones(target, request.avoid)
        others = []
        with suppress(NoCapacity):
            others = self._market.zones(target, request.avoid)
        return [place.zone, *(zone for zone in others if zone != place.zone)]

    def _wish(self, request: LeaseRequest, target: catalog.Target, zone: str) -> requests.Wish:
        image, least_gib = self._market.image()
        disk = max(self._settings.disk_bytes, request.disk_bytes or 0)
        if least_gib > requests.gib(disk):
            raise Rejected(
                f"the image {self._settings.image} needs a disk of {least_gib} GiB, and {requests.gib(disk)} are "
                "planned and paid for",
                advice=f"gpujob config set gce.disk '{least_gib} GiB'",
            )
        word = self._owner.word_or_new()
        self._now()  # so that Google's clock is known
        now = agreed_now(self._client.now(), "Google")
        ends_at = marks.ends_at(request, now)
        if marks.run_seconds(ends_at, now) < SHORTEST_RUN_SECONDS:
            raise Rejected("what is left of the reservation is too short for Google to rent anything out")
        return requests.Wish(
            request_id=requests.request_id_of(word, request.key, zone),
            name=marks.name_of(request.key),
            zone=zone,
            type=target.type.name,
            spot=target.spot,
            image=image,
            disk_bytes=disk,
            network=self._settings.network,
            network_tag=self._network.open(),
            run_seconds=marks.run_seconds(ends_at, now),
            labels=marks.labels_for(request.key, word),
            metadata=marks.metadata_for(request, ends_at, self._contacts.public_key(), NOTICE),
        )

    def find(self, key: str) -> Lease | None:
        """The instance that carries ``key``. Raises Lost where there is none yet, but one asked for may come."""
        there = self._the_one(key)
        return marks.lease_of(there) if there else None

    def owned(self) -> Iterable[Lease]:
        """Every instance that this home has rented. Disks and firewall rules that nothing needs are deleted."""
        if not self._owner.word:
            return []
        self._forget_gone()
        found = self._instances()
        self._there.delete_orphans(self._asked.all)
        if not found:
            self._tidy()
        return [marks.lease_of(each) for each in found]

    def delete(self, lease: Lease) -> None:
        """Delete the instance; its disk goes with it, and with the last one our firewall rules. Raises NotYetGone while
        Google still has it, or may have.
        """
        zone, name = str(lease.details["place"]), str(lease.details["name"])
        if self._now_of(lease):
            self._there.delete(zone, name)
            failpoint("gce.delete:asked")
        if there := self._now_of(lease):
            raise NotYetGone(f"Google still has instance {name}, as {there.state.value}")
        self._contacts.forget(lease)
        self._ends.note(lease.key, self._held_until_gone(lease))
        failpoint("gce.delete:noted")
        if not self._there.delete_disk(zone, name):
            raise NotYetGone(f"Google still has the disk of instance {name}")
        self._asked.forget(lease.key, zone)
        self._tidy()

    def _tidy(self) -> None:
        """Delete our firewall rules where nothing of ours is there, or may come: that is asked last, so that little
        can be asked for meanwhile.
        """
        if not self._instances() and not self._asked.all():
            self._network.drop()

    def connect(self, lease: Lease) -> Machine:
        """Reach the instance's sshd as root, by the key that its startup script has let in."""
        instance = self._looked_at(lease)
        if instance.state is not State.RUNNING or not instance.address:
            raise NotYetReady(f"instance {instance.name} is {instance.state.value}")
        self._network.keep_open()
        return self._contacts.reach(
            lease, f"gce {lease.id}", instance.address, self._settings.ssh_port, place=str(lease.details["jobs"])
        )

    def _looked_at(self, lease: Lease) -> Instance:
        """The instance as it is now. Raises Gone."""
        listed = self._listing.get(self._there.all)
        found = next((each for each in listed if each.number == lease.id), None) or self._now_of(lease)
        if (fate := self._fate_of(lease, found)) is not Fate.ALIVE or found is None:
            raise Gone(marks.over_words(lease, found, fate), fate)
        return found

    # what the provider can tell

    def held_seconds(self, lease: Lease) -> float | None:
        """By Google's clock, from when it was made until it was gone or until now."""
        held = self._ends.held_seconds(lease.key)
        return self._held(lease, self._now()) if held is None else held

    def settled(self, lease: Lease) -> None:
        """The instance is accounted for."""
        self._ends.forget(lease.key)

    def fate(self, lease: Lease) -> Fate:
        """What became of the instance."""
        return self._fate_of(lease, self._now_of(lease))

    def setup_state(self) -> SetupState:
        """Whether Google accepts the credentials that are found: one free call."""
        if package := first_missing(PACKAGES):
            return SetupState(False, "not installed", f"the Python package {package}", INSTALL)
        missing, how = self._settings.lacking()
        if missing:
            return SetupState(False, "not signed in", missing, how)
        return asked_state("Google", "the project cannot be used", self._summary)

    def _summary(self) -> str:
        project = self._client.project
        self._client.call(requests.get_project(project))
        count = len(self._there.all()) if self._owner.word else 0
        return f"signed in to project {project}, {count} instances of this home"

    # inside

    @property
    def _client(self) -> Client:
        """One for all threads. Raises Rejected where Google's packages are missing."""
        with self._opening:
            if self._opened is None:
                if package := first_missing(PACKAGES):
                    raise Rejected(f"Compute Engine needs the Python package {package!r}", advice=INSTALL)
                from backends.gce.client import Client

                self._opened = Client(self._settings)
            return self._opened

    def _lacking(self) -> tuple[str, str]:
        """What has to be set up before anything can be rented, and how; both empty if nothing has."""
        if package := first_missing(PACKAGES):
            return f"the Python package {package}", INSTALL
        return self._settings.lacking()

    def _instances(self) -> list[Instance]:
        """All of ours. A list may lag behind: what was asked for is looked for in its own zone as well."""
        found = {each.number: each for each in self._listing.fresh(self._there.all)}
        for key in self._asked.all():
            if (place := self._asked.place(key)) and (own := self._there.get(place.zone, marks.name_of(key))):
                found[own.number] = own
        return list(found.values())

    def _the_one(self, key: str) -> Instance | None:
        """The instance that carries ``key``. Raises Lost where there is none yet, but one asked for may come."""
        place = self._asked.place(key)
        if place is None:
            listed = self._there.all() if self._owner.word else []
            return next((each for each in listed if marks.key_of(each) == key), None)
        if not place.heard:
            self._learn_what_came(key, place.zone)
        return self._there.get(place.zone, marks.name_of(key))

    def _learn_what_came(self, key: str, zone: str) -> None:
        """What became of a request whose answer was not heard. Raises Lost while that cannot be told."""
        doubt = self._asked.doubt(key, self._now)  # asked first: what Google knew before the time was up proves nothing
        operation = self._there.asked_as(zone, requests.request_id_of(self._owner.word, key, zone))
        if operation is None and doubt:
            raise Lost(doubt)
        if operation is not None and not operation.done:
            raise Lost(f"Google is still making the instance that was asked for in {zone}")
        if operation is not None and not operation.failed:
            self._asked.heard(key, zone)
        elif self._there.get(zone, marks.name_of(key)) is None:
            self._asked.forget(key, zone)

    def _forget_gone(self) -> None:
        """Marks of machines that are gone though nobody has given them back."""
        for key in self._asked.all():
            place = self._asked.place(key)
            with suppress(Lost):
                if place and self._the_one(key) is None:
                    self._asked.forget(key, place.zone)

    def _now_of(self, lease: Lease) -> Instance | None:
        """The lease's instance as it is now; None where Google has it no more."""
        found = self._there.get(str(lease.details["place"]), str(lease.details["name"]))
        return found if found and found.number == lease.id else None

    def _done_to(self, lease: Lease) -> list[Operation]:
        return self._there.done_to(str(lease.details["place"]), lease.id)

    def _fate_of(self, lease: Lease, found: Instance | None) -> Fate:
        fate = marks.fate_of(found, ())
        return fate if fate is Fate.ALIVE else marks.fate_of(found, self._done_to(lease))

    def _held_until_gone(self, lease: Lease) -> float:
        """Where Google still tells when it was ended, until then; else until now."""
        ends = [each.ended_at for each in self._done_to(lease) if each.kind != "insert" and each.ended_at]
        return self._held(lease, max(ends) if ends else self._now())

    def _held(self, lease: Lease, end: datetime) -> float:
        """No longer than Google lets it run."""
        return min(seconds_between(lease.created_at, end), float(lease.details["max_seconds"]))

    def _now(self) -> datetime:
        """Google's clock; ours where it cannot be asked."""
        if self._client.now() is None:
            with suppress(BackendError):  # whoever cannot be asked has no clock to read
                self._client.call(requests.get_project(self._client.project))
        return self._client.now() or datetime.now(UTC)
