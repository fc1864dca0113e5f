"""What must hold when renting from AWS is over: the emulator's own meter and lists against one home's journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backends.aws.marks import KEY, OWNER
from tests.emulators.account_kit import MICROS, Account, account_of
from tests.emulators.aws import AwsEmulator, Box


def word_of(home: Path) -> str:
    """What the home marks its own with; empty where it has never rented anything."""
    owner = home / "aws" / "owner"
    return owner.read_text().strip() if owner.exists() else ""


def boxes_of(cloud: AwsEmulator, home: Path, key: str | None = None) -> list[Box]:
    """Every instance that the home ever rented, or those of one attempt, by their tags."""
    word = word_of(home)
    return [box for box in cloud.created if word and box.tags[OWNER] == word and key in (None, box.tags[KEY])]


def spent(cloud: AwsEmulator, home: Path, key: str) -> float:
    """What the instances of one attempt have cost, in micro-dollars."""
    return sum(box.cost_usd(cloud.clock.now()) for box in boxes_of(cloud, home, key)) * MICROS


def left_of(cloud: AwsEmulator, home: Path) -> list[str]:
    """Ids of all that the account still has and that is not marked as another home's."""
    word = word_of(home)
    listed = {"security_groups": "GroupId", "volumes": "VolumeId", "key_pairs": "KeyPairId"}
    found = [(each, each[id_]) for what, id_ in listed.items() for each in cloud.left(what)]
    left = [id_ for each, id_ in found if marked_by(each) in ("", word)]
    buckets = [name for name in cloud.s3.names() if word and word in name]
    return [*(box.id for box in boxes_of(cloud, home) if not box.ended_at), *left, *buckets]


def marked_by(resource: dict[str, Any]) -> str:
    """The word of the home that something in the account belongs to; empty where it has none."""
    return next((str(tag["Value"]) for tag in resource.get("Tags", ()) if tag["Key"] == OWNER), "")


def account(cloud: AwsEmulator, home: Path) -> Account:
    """Of one home, whoever else rents in the same account. What is left counts instances, volumes, keys, security
    groups and buckets alike.
    """
    left = len(left_of(cloud, home))
    return account_of(home, len(boxes_of(cloud, home)), left, lambda key: spent(cloud, home, key))
