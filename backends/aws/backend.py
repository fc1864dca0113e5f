"""The lease life cycle of EC2's instances."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from backends.aws import catalog, marks, requests
from backends.aws.asked import Asked, Question, UsedRegions
from backends.aws.market import Market
from backends.aws.network import Network
from backends.aws.replies import (
    NOT_FOUND,
    Instance,
    Mismatch,
    NoneInZone,
    State,
    read_instances,
    read_rented,
)
from backends.aws.settings import GB, HOW_TO_SIGN_IN, Settings
from backends.aws.staging import Staging
from backends.aws.tables import regions
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
from backends.packages import first_missing
from backends.recent import Recent
from backends.rented import vm
from backends.rented.clocks import agreed_now, seconds_between
from backends.rented.contacts import Contacts
from backends.rented.ends import Ends
from backends.rented.owner import Owner

if TYPE_CHECKING:
    from backends.aws.client import Client

LISTING_SECONDS = 2.0
"""Jobs that wait for their instances share one listing."""

PACKAGES = ("boto3", "paramiko")
INSTALL = "pip install 'gpujob[aws]'"

NOTICE = """
notice() {
    latest=http://169.254.169.254/latest
    token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $latest/api/token) &&
        curl -sf -m 2 -o /dev/null -H "X-aws-ec2-metadata-token: $token" $latest/meta-data/spot/instance-action
}
"""
"""Two minutes before a spot instance is taken back its metadata says so; until then the page is not there."""


class AwsBackend:
    """EC2's instances with NVIDIA GPUs, on demand and spot."""

    name = catalog.NAME

    def __init__(self, root: Path, settings: Settings) -> None:
        self._settings = settings
        self._owner = Owner(root)
        self._ends = Ends(root)
        self._asked = Asked(root, settings.list_lag)
        self._used = UsedRegions(root)
        self._contacts = Contacts(root)
        self._market = Market(settings, lambda: self._client)
        self._network = Network(settings, lambda: self._client, self._owner.word_or_new)
        self._staging = Staging(root, settings, lambda: self._client, self._owner.word_or_new)
        self._opening = Lock()
        self._opened: Client | None = None
        self._listing: Recent[list[Instance]] = Recent(LISTING_SECONDS, time.monotonic)

    def offers(self, need: Need) -> Iterable[Offer]:
        """What can be asked for now. Not signed in: what the dated table says there was, not to be rented from here."""
        return list(catalog.with_staging(self._offers(), need.upload_bytes, self._settings))

    def _offers(self) -> Iterable[Offer]:
        if missing := self._lacking():
            return list(catalog.dated_offers(self._settings, missing))
        try:
            self._client.call(requests.who_am_i(self._settings.regions[0]))
        except AuthError as error:
            return list(catalog.dated_offers(self._settings, f"{error}; {error.advice}"))
        return self._market.offers()

    # life cycle

    def create(self, request: LeaseRequest) -> Lease:
        """Rent the instance, unless one carries the key already: in the first zone of the region that has one free.

        Raises AuthError where nobody is signed in, Rejected where the clocks disagree, NoCapacity where no zone has
        one or the quota is used up, and Lost where one may have been made though no good reply came.
        """
        if missing := self._lacking():
            raise AuthError(f"AWS cannot be used: {missing}", advice=f"{HOW_TO_SIGN_IN}.")
        target = self._target(request)
        if there := self._the_one(request.key):
            return marks.lease_of(there)
        self._used.add([target.region])
        try:
            return marks.lease_of(self._rent_in_some_zone(request, target))
        except (NoCapacity, Rejected):
            self._tidy(target.region, self._instances())
            raise

    def _rent_in_some_zone(self, request: LeaseRequest, target: catalog.Target) -> Instance:
        refusals = []
        for zone in self._zones(request, target):
            try:
                return self._rent(request, target, zone)
            except NoneInZone as none:
                refusals.append(str(none))
        raise NoCapacity("; ".join(refusals))

    def _target(self, request: LeaseRequest) -> catalog.Target:
        target = catalog.target_of(request.offer.name)
        if target is None or request.max_seconds < 1:
            raise Rejected(f"{request.offer.name!r} for {request.max_seconds:g} s is nothing that AWS could rent out")
        if target.spot and not self._settings.spot:
            advice = "To allow them: gpujob config set aws.spot yes"
            raise Rejected("spot instances are not allowed by the settings", advice=advice)
        return target

    def _zones(self, request: LeaseRequest, target: catalog.Target) -> list[str]:
        """Where to ask, in order: where an answer was lost comes first, since its token finds what was made there."""
        most = catalog.spot_micros(request.offer, regions()[target.region])
        question = self._asked.open_question(request.key)
        if question is None:
            return self._market.zones(target, most, request.avoid)
        try:
            others = self._market.zones(target, most, request.avoid)
        except NoCapacity:
            others = []
        return [question.zone, *(zone for zone in others if zone != question.zone)]

    def _rent(self, request: LeaseRequest, target: catalog.Target, zone: str) -> Instance:
        wish = self._wish(request, target, zone)
        asked_at = int(self._now().timestamp())
        try:
            with self._asked.asking(request.key, Question(target.region, zone, asked_at)):
                ask = requests.run_instance(wish)
                instance = self._client.read(ask, lambda reply: read_rented(target.region, reply))
                failpoint("aws.create:rented")
        except Mismatch as used:
            self._raise_if_over(request.key, target.region, used)
            raise
        return instance

    def _raise_if_over(self, key: str, region: str, used: Mismatch) -> None:
        """The token was used. Raises NoCapacity where what it was used for is over already, so that nobody waits."""
        word = self._owner.word
        found = [each for each in marks.ours(self._read(region), word) if each.tags[marks.KEY] == key]
        if found and all(each.state in marks.OVER for each in found):
            self._asked.forget(key)
            raise NoCapacity(f"instance {found[0].id} of this attempt is over already: {found[0].reason}") from used

    def _wish(self, request: LeaseRequest, target: catalog.Target, zone: str) -> requests.Wish:
        region = target.region
        subnet, vpc = self._market.subnets(region)[zone]
        ami, root_device, least_gb = self._market.image(region)
        group = self._network.group(region, vpc)
        ends_at = marks.ends_at(request, agreed_now(self._client.now(), "AWS"))
        word = self._owner.word_or_new()
        script = vm.boot_script(
            key=request.key,
            ends_at=ends_at,
            max_seconds=int(request.max_seconds),
            public_key=self._contacts.public_key(),
            provider_snippet=NOTICE,
        )
        disk = max(self._settings.disk_bytes, request.disk_bytes or 0)
        if least_gb * GB > disk:
            raise Rejected(
                f"the image {ami} needs a disk of {least_gb} GB, and {disk // GB} GB are planned and paid for",
                advice=f"gpujob config set aws.disk '{least_gb} GB'",
            )
        return requests.Wish(
            token=requests.token_of(word, request.key, zone),
            type=target.type.name,
            ami=ami,
            root_device=root_device,
            disk_gb=disk // GB,
            region=region,
            zone=zone,
            subnet=subnet,
            group=group,
            user_data=script,
            tags=marks.tags_for(request, word, ends_at),
            max_micros=catalog.spot_micros(request.offer, regions()[region]) if target.spot else None,
        )

    def find(self, key: str) -> Lease | None:
        """The instance that carries ``key``. Raises Lost where none is listed, but one asked for may be there."""
        there = self._the_one(key)
        return marks.lease_of(there) if there else None

    def owned(self) -> Iterable[Lease]:
        """Every instance that this home has rented. A security group that none uses is deleted, and an empty bucket."""
        if not self._used.all():
            return []
        found = self._instances()
        self._asked.forget_old(self._now)
        for region in self._used.all():
            self._tidy(region, found)
            if region not in {each.region for each in found}:
                self._staging.drop(region)
        return [marks.lease_of(each) for each in found]

    def delete(self, lease: Lease) -> None:
        """Terminate the instance; its volume goes with it, and with the last one our security group. Raises NotYetGone
        while AWS still has it, or may have.
        """
        doubt = self._asked.doubt(lease.key, self._now)
        before = self._known(lease)
        for each in self._all_of(lease):
            if each.state is not State.SHUTTING_DOWN:
                self._client.call_unless(requests.terminate(each.region, each.id), NOT_FOUND)
        failpoint("aws.delete:asked")
        after = self._known(lease)
        if left := self._all_of(lease):
            raise NotYetGone(f"AWS still has instance {left[0].id}, as {left[0].state.value}")
        if after is None and before is None and self._is_young(lease):
            raise NotYetGone(f"instance {lease.id} is so new that AWS does not show it yet")
        self._contacts.forget(lease)
        self._ends.note(lease.key, self._held_until(lease, after or before))
        failpoint("aws.delete:noted")
        if doubt and after is None:
            raise NotYetGone(f"instance {lease.id} is gone, but {doubt}")
        self._asked.forget(lease.key)
        self._drop_leftovers(lease)

    def _drop_leftovers(self, lease: Lease) -> None:
        """Volumes that have not gone with their instance, and the group that nothing uses any more."""
        region = _region(lease)
        ask = requests.list_volumes(region, marks.KEY, lease.key)
        for volume in self._client.read(ask, lambda reply: list(reply["Volumes"])):
            if {"Key": marks.OWNER, "Value": self._owner.word} in volume.get("Tags", ()):
                self._client.call_unless(requests.delete_volume(region, str(volume["VolumeId"])), NOT_FOUND)
        if not self._tidy(region, self._instances()):
            raise NotYetGone(f"AWS still counts the security group in {region} as used")

    def _tidy(self, region: str, instances: list[Instance]) -> bool:
        """Delete our group where nothing of ours uses it, or is about to; False where AWS does not let us yet."""
        in_use = any(each.region == region for each in instances) or region in self._asked.regions(self._now)
        return in_use or self._network.drop(region)

    def connect(self, lease: Lease) -> Machine:
        """Reach the instance's sshd as root, by the key that its boot script has let in."""
        instance = self._looked_at(lease)
        if instance.state is not State.RUNNING or not instance.address:
            raise NotYetReady(f"instance {lease.id} is {instance.state.value}")
        self._network.keep_open(instance.region)
        return self._contacts.reach(
            lease, f"aws {lease.id}", instance.address, self._settings.ssh_port, place=vm.PLACE_FOR_JOBS,
            ahead=partial(self._staging.carry, instance.region, int(lease.details["stage_micros"])),
        )  # fmt: skip

    def _looked_at(self, lease: Lease) -> Instance:
        """The instance as it is now. Raises Gone, and NotYetReady where it is too new to be shown."""
        listed = self._listing.get(self._instances_now)
        found = next((each for each in listed if each.id == lease.id), None) or self._known(lease)
        if found is None and self._is_young(lease):
            raise NotYetReady(f"instance {lease.id} is so new that AWS does not show it yet")
        fate = marks.fate_of(found)
        if found is None or fate is not Fate.ALIVE:
            raise Gone(marks.over_words(lease, found, fate), fate)
        return found

    # what the provider can tell

    def held_seconds(self, lease: Lease) -> float | None:
        """By AWS's clock, from the launch until the instance was ended or until now."""
        held = self._ends.held_seconds(lease.key)
        return self._held_until(lease, None) if held is None else held

    def settled(self, lease: Lease) -> None:
        """The instance is accounted for."""
        self._ends.forget(lease.key)
        self._staging.settled(lease.key)

    def fate(self, lease: Lease) -> Fate:
        """What became of the instance."""
        found = self._known(lease)
        return Fate.ALIVE if found is None and self._is_young(lease) else marks.fate_of(found)

    def setup_state(self) -> SetupState:
        """Whether AWS accepts the credentials that boto3 finds: one free call."""
        if package := first_missing(PACKAGES):
            return SetupState(False, "not installed", f"the Python package {package}", INSTALL)
        if not self._settings.may_be_signed_in():
            return SetupState(False, "not signed in", "credentials of an AWS account", HOW_TO_SIGN_IN)
        return asked_state("AWS", "the credentials are refused", self._summary)

    def _summary(self) -> str:
        asking = requests.who_am_i(self._settings.regions[0])
        account = self._client.read(asking, lambda reply: str(reply["Account"]))
        by_ssh = f"; large uploads go by SSH ({trouble})" if (trouble := self._staging.trouble()) else ""
        return f"signed in to account {account}, {len(self._instances())} instances of this home{by_ssh}"

    # inside

    @property
    def _client(self) -> Client:
        """One for all threads. Raises Rejected where boto3 is missing."""
        with self._opening:
            if self._opened is None:
                if package := first_missing(PACKAGES):
                    raise Rejected(f"AWS needs the Python package {package!r}", advice=INSTALL)
                from backends.aws.client import Client

                self._opened = Client(self._settings.profile)
            return self._opened

    def _lacking(self) -> str:
        """What has to be set up before anything can be rented, in words; empty if nothing has."""
        if package := first_missing(PACKAGES):
            return f"AWS needs the Python package {package}: {INSTALL}"
        return "" if self._settings.may_be_signed_in() else f"AWS has no credentials: {HOW_TO_SIGN_IN}"

    def _instances(self) -> list[Instance]:
        return self._listing.fresh(self._instances_now)

    def _instances_now(self) -> list[Instance]:
        """All of ours that are not over, wherever this home has ever asked for any."""
        word = self._owner.word
        found = [each for region in self._used.all() for each in self._read(region)]
        return [each for each in marks.ours(found, word) if each.state not in marks.OVER]

    def _read(self, region: str) -> list[Instance]:
        """What AWS lists there with our word, what is over among it."""
        pages = self._client.pages(
            lambda page: requests.list_instances(region, marks.OWNER, self._owner.word, page),
            lambda reply: read_instances(region, reply),
        )
        return [each for page in pages for each in page]

    def _known(self, lease: Lease) -> Instance | None:
        """The lease's instance by its id, also when it is over; None where AWS does not know it, or by now no more."""
        ask = requests.get_instance(_region(lease), lease.id)
        reply = self._client.call_unless(ask, NOT_FOUND)
        found = read_instances(_region(lease), reply) if reply else []
        return found[0] if found else None

    def _all_of(self, lease: Lease) -> list[Instance]:
        """What carries the lease's key and is not over. A listing may lag behind: it is asked for by its id as well."""
        own = self._known(lease)
        listed = [each for each in self._instances() if each.tags[marks.KEY] == lease.key]
        found = {each.id: each for each in (*listed, *([own] if own else []))}
        return [each for each in found.values() if each.state not in marks.OVER]

    def _the_one(self, key: str) -> Instance | None:
        """The instance that carries ``key``. Raises Lost where none is listed, but one asked for may be there."""
        doubt = self._asked.doubt(key, self._now)
        found = [each for each in self._instances() if each.tags[marks.KEY] == key]
        if found:
            self._asked.forget(key)
            return found[0]
        if doubt:
            raise Lost(doubt)
        return None

    def _is_young(self, lease: Lease) -> bool:
        return (self._now() - lease.created_at).total_seconds() < self._settings.list_lag

    def _held_until(self, lease: Lease, instance: Instance | None) -> float:
        """Seconds from the launch to its end, or until now. AWS's clock shows whole seconds: the one begun counts."""
        end = instance.ended_at if instance and instance.ended_at else self._now()
        return seconds_between(lease.created_at, end)

    def _now(self) -> datetime:
        """AWS's clock; ours where it cannot be asked."""
        if self._client.now() is None:
            with suppress(BackendError):  # whoever cannot be asked has no clock to read
                self._client.call(requests.who_am_i(self._settings.regions[0]))
        return self._client.now() or datetime.now(UTC)


def _region(lease: Lease) -> str:
    return str(lease.details["region"])
