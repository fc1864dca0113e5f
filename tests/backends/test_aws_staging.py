"""Uploads by way of S3: Staging before the emulated account, with a machine that is a real sshd's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backends.aws import catalog, client, open_backend, staging
from backends.aws import stage_requests as s3
from backends.aws.client import Client
from backends.aws.settings import Settings
from backends.aws.staging import Staging
from backends.aws.tables import regions
from backends.billing import price_of
from backends.channels.ssh import SshMachine
from backends.channels.ssh_connection import hang_up
from backends.channels.ssh_keys import HostKeys, identity
from tests.emulators.aws import AwsEmulator
from tests.emulators.sshd import SSHD, Sshd, running_sshd

pytestmark = pytest.mark.needs("moto")

REGION, WORD = "us-east-1", "0123456789abcdef" * 2
BUCKET = s3.bucket_of(WORD, REGION, "123456789012")
FILE_BYTES, GB = 1 << 20, 10**9
MOST = 10_000
PREPARED = ["HeadBucket", "CreateBucket", "PutPublicAccessBlock", "PutBucketLifecycleConfiguration"]
PUTS = {"PutObject", "UploadPart", "CompleteMultipartUpload", "CopyObject"}

# what is asked, and what it costs: pure


def test_an_object_expires_at_the_second_midnight_after_it_was_put() -> None:
    assert s3.expires_at(datetime(2026, 1, 1, 10, 30, tzinfo=UTC)) == datetime(2026, 1, 3, tzinfo=UTC)
    assert s3.expires_at(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 2, tzinfo=UTC)


def test_staging_costs_a_fraction_of_a_cent_per_gigabyte_and_is_part_of_the_price() -> None:
    place = regions()[REGION]
    assert s3.cost_micros(GB, place) == pytest.approx(23_000 * 2 / 28 + 33 * 5, abs=1)
    dated = list(catalog.dated_offers(Settings(), ""))
    small, large = (list(catalog.with_staging(dated, size, Settings())) for size in (GB - 1, GB))
    assert small == dated
    assert {each.billing.upload_micros for each in large} == {s3.planned_micros(GB, place)}
    assert price_of(large[0]).micros(3600) - price_of(dated[0]).micros(3600) == s3.planned_micros(GB, place) < 2_200
    assert list(catalog.with_staging(dated, GB, Settings(stage_from=None))) == dated
    assert all(s3.cost_micros(GB, each) < 2_100 for each in regions().values())


@pytest.mark.parametrize("region", sorted(regions()))
def test_a_bucket_has_a_name_that_s3_takes_and_a_place(region: str) -> None:
    bucket = s3.bucket_of(WORD, region, "1")
    assert len(bucket.name) <= 63
    assert bucket.name.replace("-", "").isalnum()
    assert ("CreateBucketConfiguration" in s3.make_bucket(bucket).params) == (region != "us-east-1")


# before the emulated account


@pytest.fixture(scope="module")
def account() -> Iterator[AwsEmulator]:
    with AwsEmulator(machines=False) as cloud:
        yield cloud


@pytest.fixture
def cloud(account: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEmulator]:
    """One account for all tests here; each must leave nothing in it that does not expire."""
    for name, value in account.env.items():
        monkeypatch.setenv(name, value)
    account.s3.asked.clear()
    yield account
    account.forget_faults()
    account.s3.midnights(2)
    for name in account.s3.names():
        assert not account.s3.keys(name)
        assert not account.s3.unfinished(name)
        account.s3.remove(name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if SSHD is None:
        pytest.skip("NOT TESTED: SSH needs a server here (apt-get install openssh-server)")
    with running_sshd(tmp_path_factory.mktemp("sshd")) as served:
        served.allow(identity(tmp_path_factory.getbasetemp()).public)
        yield served


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the machine has its jobs and our tools, which are carried there once."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture
def root(place: Path) -> Iterator[Path]:
    """The same, without what jobs have left."""
    yield place
    for job in place.glob("job-*"):
        shutil.rmtree(job)


@pytest.fixture
def machine(server: Sshd, root: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshMachine]:
    pin = f"pin-{tmp_path}"
    mine = identity(tmp_path_factory.getbasetemp())
    yield SshMachine(server.address, mine, HostKeys(tmp_path / "host_keys.json"), pin, str(root))
    hang_up(pin)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files that are worth it, and one that is not."""
    (tmp_path / "tree" / "models").mkdir(parents=True)
    (tmp_path / "tree" / "models" / "large").write_bytes(os.urandom(FILE_BYTES))
    (tmp_path / "tree" / "train.py").write_text("print()\n")
    return tmp_path / "tree"


class Cancelled(Exception):
    """What a user's wish raises."""


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def asking() -> Client:
    """Shared, since loading the SDK's model of S3 takes long."""
    return Client("")


@pytest.fixture
def opened(
    cloud: AwsEmulator, asking: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Staging]:
    monkeypatch.setattr(s3, "LEAST_FILE_BYTES", FILE_BYTES)

    def open_one(stage_from: int | None = FILE_BYTES, clock: Callable[[], float] | None = None) -> Staging:
        return Staging(tmp_path, Settings(stage_from=stage_from), lambda: asking, lambda: WORD, clock or Time())

    return open_one


def silent(done: int, total: int) -> None:
    assert done <= total


def there(root: Path, dest: str = "job-a1/work") -> bytes | None:
    file = root / dest / "models" / "large"
    return file.read_bytes() if file.exists() else None


def puts(cloud: AwsEmulator) -> list[str]:
    return [each for each in cloud.s3.asked if each in PUTS]


def test_a_file_goes_up_once_and_every_machine_fetches_it(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path, root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tree / "models" / "large").write_bytes(os.urandom(11 << 20))
    monkeypatch.setattr(client, "PART_BYTES", 5 << 20)
    cloud.s3.lose("UploadPart")
    cloud.s3.cut()
    steps: list[tuple[int, int]] = []
    opened().carry(REGION, MOST, machine, tree, "job-a1/work", lambda done, total: steps.append((done, total)))
    assert cloud.s3.asked[:4] == PREPARED, "it is closed, and what is in it expires, before anything is in it"
    assert cloud.s3.rules(BUCKET.name)[0]["Expiration"] == {"Days": 1}
    assert steps[-1][0] >= 11 << 20, "the bytes that went over the line were told"
    body = (tree / "models" / "large").read_bytes()
    assert there(root) == body, "though a part's reply was lost, and a download cut"
    sent = len(puts(cloud))
    again = opened()
    again.carry(REGION, MOST, machine, tree, "job-a2/work", silent)
    assert there(root, "job-a2/work") == body
    assert len(puts(cloud)) == sent, "another attempt uploads nothing"
    asked = len(cloud.s3.asked)
    again.carry(REGION, MOST, machine, tree, "job-a2/work", silent)
    opened(stage_from=12 << 20).carry(REGION, MOST, machine, tree, "job-a3/work", silent)
    opened(stage_from=None).carry(REGION, MOST, machine, tree, "job-a3/work", silent)
    assert len(cloud.s3.asked) == asked, "nothing is lacking, too little to be worth it, not wanted"
    assert again.trouble() == ""


def test_the_bucket_goes_when_it_holds_nothing_any_more(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path
) -> None:
    opened().carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    opened().drop(REGION)
    assert cloud.s3.names() == [BUCKET.name]
    cloud.s3.midnights(2)
    opened().drop(REGION)
    assert cloud.s3.names() == []
    asked = len(cloud.s3.asked)
    opened().drop(REGION)
    assert len(cloud.s3.asked) == asked, "nothing of ours is there"


@pytest.mark.parametrize("point", ["aws.stage:made", "aws.stage:put"])
def test_whoever_dies_on_the_way_leaves_nothing_that_stays(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path, root: Path,
    monkeypatch: pytest.MonkeyPatch, point: str,
) -> None:  # fmt: skip
    def die(at: str) -> None:
        if at == point:
            raise Cancelled

    monkeypatch.setattr(staging, "failpoint", die)
    with pytest.raises(Cancelled):
        opened().carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    point = ""
    left = len(cloud.s3.asked)
    opened().carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    assert cloud.s3.asked[left:][:3] == ["HeadBucket", *PREPARED[2:]], "before anything is put"
    assert (puts(cloud), there(root) is not None) == (["PutObject"], True)


def test_somebody_elses_bucket_gets_nothing_and_ssh_sends_all(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path, root: Path, tmp_path: Path
) -> None:
    cloud.s3.take_name(BUCKET.name)
    once = opened()
    once.carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    assert cloud.s3.asked == ["HeadBucket"]
    state = open_backend(tmp_path, {}).setup_state()
    assert state.ready
    assert "large uploads go by SSH (us-east-1: " in state.summary, "any process can tell"
    assert "somebody else has taken the bucket's name" in state.summary
    machine.push(tree, "job-a1/work", silent)
    assert there(root) == (tree / "models" / "large").read_bytes()


def test_a_right_that_is_lacking_is_not_asked_for_every_time(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path, root: Path
) -> None:
    cloud.s3.deny("s3:PutLifecycleConfiguration")
    time = Time()
    once = opened(clock=time)
    for _ in range(2):
        once.carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    assert cloud.s3.asked.count("PutBucketLifecycleConfiguration") == 1
    assert not puts(cloud), "nothing is put that would not expire"
    assert "AccessDenied" in once.trouble()
    cloud.forget_faults()
    time.now += staging.LEFT_ALONE_SECONDS
    once.carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    assert (there(root) is not None, once.trouble()) == (True, "")


def test_what_would_soon_expire_is_made_young_again_without_another_upload(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path, root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for _ in range(2):
        opened().carry(REGION, MOST, machine, tree, "job-a1/work", silent)
        cloud.s3.age(timedelta(days=3).total_seconds())
        (root / "job-a1/work/models/large").unlink()
    assert puts(cloud) == ["PutObject", "PutObject"], "what has expired may be gone at any moment: it is sent again"
    cloud.s3.age(-timedelta(days=3).total_seconds())
    monkeypatch.setattr(staging, "ADDRESS_SECONDS", 48 * 3600)
    opened().carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    assert puts(cloud)[2:] == ["CopyObject"]
    assert there(root) is not None


def test_a_damaged_object_is_not_believed_and_is_put_anew(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path, root: Path
) -> None:
    once, body = opened(), (tree / "models" / "large").read_bytes()
    cloud.s3.damage()
    once.carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    assert there(root) is None
    received = cloud.s3.received
    once.carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    assert (there(root), cloud.s3.received) == (body, received + FILE_BYTES)


def test_an_address_is_good_for_an_hour(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path, root: Path
) -> None:
    once = opened()
    cloud.clock.advance(7200)
    once.carry(REGION, MOST, machine, tree, "job-a1/work", silent)
    cloud.clock.advance(-7200)
    assert there(root) is None
    assert "cannot fetch from the bucket" in once.trouble()
    assert "403" in once.trouble()
    assert not any(word in once.trouble() for word in ("X-Amz", "http"))


def test_an_attempt_puts_no_more_than_it_may_cost(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path, root: Path
) -> None:
    (tree / "other").write_bytes(os.urandom(FILE_BYTES))
    most = s3.cost_micros(FILE_BYTES, regions()[REGION])
    for _ in range(2):  # also a worker that comes after one that died
        opened().carry(REGION, most, machine, tree, "job-a1/work", silent)
    assert len(puts(cloud)) == 1
    opened().carry(REGION, most, machine, tree, "job-a2/work", silent)
    assert len(puts(cloud)) == 2, "the next one puts the other, and fetches both"
    assert {path.name for path in (root / "job-a2/work").rglob("*") if path.is_file()} == {"large", "other"}


def test_whoever_wants_it_to_end_ends_it(
    opened: Callable[..., Staging], cloud: AwsEmulator, machine: SshMachine, tree: Path
) -> None:
    def enough(done: int, total: int) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        opened().carry(REGION, MOST, machine, tree, "job-a1/work", enough)
    assert not cloud.s3.keys(BUCKET.name)
