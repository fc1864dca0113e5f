"""What must hold when renting from Google is over: the emulator's own meter and lists against one home's journal."""

from __future__ import annotations

from pathlib import Path

from backends.gce import marks
from tests.emulators.account_kit import MICROS, Account, account_of
from tests.emulators.gce import Box, GceEmulator


def word_of(home: Path) -> str:
    """What the home marks its own with; empty where it has never rented anything."""
    owner = home / "gce" / "owner"
    return owner.read_text().strip() if owner.exists() else ""


def boxes_of(cloud: GceEmulator, home: Path, key: str | None = None) -> list[Box]:
    """Every instance that the home ever rented, or those of one attempt, by their marks."""
    word = word_of(home)
    return [
        box
        for box in cloud.created
        if word and box.order["labels"][marks.OWNER] == word and key in (None, box.told()["key"])
    ]


def spent(cloud: GceEmulator, home: Path, key: str) -> float:
    """What the instances of one attempt have cost, in micro-dollars."""
    return sum(box.cost_usd(cloud.clock.now()) for box in boxes_of(cloud, home, key)) * MICROS


def left_of(cloud: GceEmulator, home: Path) -> list[str]:
    """Names of all that the project still has and that is not marked as another home's."""
    word = word_of(home)
    disks = [(name, disk["labels"].get(marks.OWNER, "")) for (_, name), disk in cloud.project.disks.items()]
    rules = [(name, rule["description"].removeprefix("gpujob ")) for name, rule in cloud.project.rules.items()]
    left = [name for name, marked_by in (*disks, *rules) if marked_by in ("", word)]
    return [*(box.name for box in boxes_of(cloud, home) if not box.gone_at), *left]


def account(cloud: GceEmulator, home: Path) -> Account:
    """Of one home, whoever else rents in the same project. What is left counts instances, disks and firewall rules
    alike.
    """
    left = len(left_of(cloud, home))
    return account_of(home, len(boxes_of(cloud, home)), left, lambda key: spent(cloud, home, key))
