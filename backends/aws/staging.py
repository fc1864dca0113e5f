"""Large uploads by way of S3: sent over the user's line once, and fetched from there by every instance that wants them.

The files lie in a bucket of ours, one a region, under the SHA-256 of their content, and S3 itself removes them within
two days. Whatever goes wrong with that costs time and nothing else: the push over SSH that follows sends what is still
missing. Why is told in the worker's log and by ``gpujob backends``, and for an hour it is not tried again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from backends.aws import requests
from backends.aws import stage_requests as s3
from backends.aws.settings import Settings
from backends.aws.tables import regions
from backends.base import AuthError, BackendError, Progress, Rejected
from backends.channels.sources import Brought, Source
from backends.channels.ssh_connection import Interrupted
from backends.channels.trees import Meter
from backends.durable import keep
from backends.failpoints import failpoint
from backends.runner.parcels import Item, walk

if TYPE_CHECKING:
    from backends.aws.client import Client
    from backends.channels.ssh import SshMachine

LEFT_ALONE_SECONDS = 3600.0
"""So long it is not tried again in a region where it did not work."""

ADDRESS_SECONDS = 3600
"""So long a signed address is good, and an object must last at least."""

HASHED_AT_ONCE = 1 << 22
BEAT_SECONDS = 1.0

REFUSED = ". These credentials lack a right that docs/aws.md names, or somebody else has taken the bucket's name"

log = logging.getLogger("gpujob.aws")


class Staging:
    """The buckets of one home. ``word`` gives the home's word; shared by threads."""

    def __init__(
        self,
        root: Path,
        settings: Settings,
        client: Callable[[], Client],
        word: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._marks = root / "buckets"
        self._troubles = root / "staging"
        self._settings = settings
        self._client = client
        self._word = word
        self._clock = clock
        self._left_alone: dict[str, float] = {}
        self._broken: set[str] = set()
        self._spent = root / "staged"
        self._account = ""
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)

    def carry(
        self, region: str, most_micros: int, machine: SshMachine, tree: Path, dest: str, progress: Progress
    ) -> None:
        """Have the machine fetch the large files of an upload from S3, where they are large enough together, and as far
        as ``most_micros`` pay for an attempt.

        Never fails because of S3. Raises what ``progress`` raises, and Interrupted where the machine is out of reach.
        """
        if self._clock() < self._left_alone.get(region, float("-inf")):
            return
        try:
            listing = list(walk(str(tree)))
            large = [item for item in listing if item.kind == "f" and item.size >= s3.LEAST_FILE_BYTES]
            large.sort(key=lambda item: -item.size)
            if not most_micros or not self._is_worthwhile(large):
                return
            if self._is_worthwhile(lacking := machine.lacking(dest, large)):
                meter = Meter(sum(item.size for item in listing), progress)
                self._bring(region, most_micros, machine, tree, dest, lacking, meter)
        except Interrupted:
            raise
        except (BackendError, OSError) as error:
            self._leave_alone(region, error)

    def drop(self, region: str) -> None:
        """Delete the region's bucket where nothing is in it any more. To be called where no instance of ours is."""
        mark = self._marks / region
        if not mark.exists():
            return
        try:
            self._client().call_unless(s3.drop_bucket(self._bucket(region)), s3.GONE)
        except BackendError:
            return  # it holds something yet, or these credentials may not; empty it costs nothing
        mark.unlink(missing_ok=True)

    def settled(self, key: str) -> None:
        """The attempt ``key`` is accounted for."""
        (self._spent / key).unlink(missing_ok=True)

    def trouble(self) -> str:
        """Why large uploads went by SSH the last time, by region and in words; empty where they did not."""
        said = []
        for path in sorted(self._troubles.glob("[a-z]*")):
            with suppress(FileNotFoundError):  # another worker has just found that it works
                said.append(f"{path.name}: {path.read_text(encoding='utf-8')}")
        return "; ".join(said)

    # inside

    def _is_worthwhile(self, files: Sequence[Item]) -> bool:
        least = self._settings.stage_from
        return least is not None and bool(files) and sum(item.size for item in files) >= least

    def _bring(
        self, region: str, most_micros: int, machine: SshMachine, tree: Path, dest: str, files: Sequence[Item],
        meter: Meter,
    ) -> None:  # fmt: skip
        """Stage the files, and have the machine fetch those that could be; ``dest`` begins with the attempt's key."""
        bucket = self._bucket(region)
        self._prepare(bucket)
        purse = _Purse(self._spent / dest.partition("/")[0], most_micros)
        staged = [(item, self._stage(bucket, tree / item.name, item, purse, meter)) for item in files]
        failpoint("aws.stage:put")
        wanted = [
            Source(item, digest, self._client().signed(s3.get_object(bucket, digest), ADDRESS_SECONDS))
            for item, digest in staged
            if digest
        ]
        brought = machine.fetch(dest, wanted, meter.still) if wanted else Brought()
        self._broken.update(each.sha256 for each in brought.broken)
        if brought.why:
            raise Rejected(f"the instance cannot fetch from the bucket {bucket.name}: {brought.why}")
        (self._troubles / region).unlink(missing_ok=True)

    def _prepare(self, bucket: s3.Bucket) -> None:
        """The bucket is there, is ours, closed to the public, and what is put into it expires: before anything is."""
        ask = self._client()
        is_there = ask.call_unless(s3.look_for_bucket(bucket), s3.GONE) is not None
        if not (mark := self._marks / bucket.region).exists():
            keep(mark, bucket.name)
        if not is_there:
            ask.call_unless(s3.make_bucket(bucket), s3.OURS_ALREADY)
            failpoint("aws.stage:made")
        ask.call(s3.close_to_public(bucket))
        ask.call(s3.let_expire(bucket))

    def _stage(self, bucket: s3.Bucket, file: Path, item: Item, purse: _Purse, meter: Meter) -> str:
        """Make a file lie in the bucket for the time to come; the SHA-256 of its content. Empty where it does not lie
        there, and the attempt has spent on staging what it may.
        """
        digest = _sha256(file, meter.still)
        with self._alone(digest, meter.still):
            left = self._left(bucket, digest, item)
            if left >= timedelta(seconds=ADDRESS_SECONDS):
                meter.done(item.size)
                return digest
            cost = s3.cost_micros(item.size, regions()[bucket.region])
            if not purse.pays(cost):
                return ""
            if left and self._renewed(bucket, digest):
                meter.done(item.size)
            else:
                self._client().upload(s3.put_object(bucket, digest), file, meter.done)
                self._broken.discard(digest)
        return digest

    def _left(self, bucket: s3.Bucket, digest: str, item: Item) -> timedelta:
        """How long the object will be there; zero where it is not, or not as it should be."""
        there = self._client().call_unless(s3.look_at_object(bucket, digest), s3.GONE) or {}
        put_at = there.get("LastModified")
        if put_at is None or there.get("ContentLength") != item.size or digest in self._broken:
            return timedelta(0)
        now = self._client().now() or datetime.now(UTC)
        return max(timedelta(0), s3.expires_at(put_at) - now)

    def _renewed(self, bucket: s3.Bucket, digest: str) -> bool:
        """Whether S3 has made the object young again; False where it is gone, or larger than what S3 copies at once."""
        try:
            self._client().call(s3.put_anew(bucket, digest))
        except BackendError:
            return False
        return True

    def _bucket(self, region: str) -> s3.Bucket:
        if not self._account:
            asking = requests.who_am_i(region)
            self._account = self._client().read(asking, lambda reply: str(reply["Account"]))
        return s3.bucket_of(self._word(), region, self._account)

    @contextmanager
    def _alone(self, digest: str, still: Callable[[], None]) -> Iterator[None]:
        """Jobs that send the same file at the same time wait for the one that does."""
        lock = self._locks[digest]
        while not lock.acquire(timeout=BEAT_SECONDS):
            still()
        try:
            yield
        finally:
            lock.release()

    def _leave_alone(self, region: str, error: Exception) -> None:
        why = f"{error}{REFUSED if isinstance(error, AuthError) else ''}"
        log.info("large uploads in %s go by SSH: %s", region, why)
        self._left_alone[region] = self._clock() + LEFT_ALONE_SECONDS
        with suppress(OSError):
            keep(self._troubles / region, f"{why}, on {datetime.now(UTC).date()}")


class _Purse:
    """What staging may still cost one attempt, in micro-dollars; on disk before it is spent, whoever dies then."""

    def __init__(self, path: Path, most_micros: int) -> None:
        self._path = path
        self._most = most_micros

    def pays(self, micros: int) -> bool:
        """Whether so much was left; it is spent then."""
        try:
            spent = int(self._path.read_text(encoding="ascii")) + micros
        except FileNotFoundError:
            spent = micros
        if spent > self._most:
            return False
        keep(self._path, str(spent))
        return True


def _sha256(path: Path, still: Callable[[], None]) -> str:
    """The digest of a file's content. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(HASHED_AT_ONCE):
            digest.update(data)
            still()
    return digest.hexdigest()
