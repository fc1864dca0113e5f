"""What must hold when renting from Google is over: the emulator's own meter and lists against one home's journal."""

from __future__ import annotations

from pathlib import Path

from backends.gce import marks
from tests.emulators.account_kit import MICROS, Account, excess, results_are_lost, rows
from tests.emulators.gce import Box, GceEmulator


def boxes_of(cloud: GceEmulator, home: Path, key: str | None = None) -> list[Box]:
    """Every instance that the home ever rented, or those of one attempt, by their marks."""
    owner = home / "gce" / "owner"
    word = owner.read_text().strip() if owner.exists() else None
    return [
        box
        for box in cloud.created
        if word and box.order["labels"][marks.OWNER] == word and key in (None, box.told()["key"])
    ]


def spent(cloud: GceEmulator, home: Path, key: str) -> float:
    """What the instances of one attempt have cost, in micro-dollars."""
    return sum(box.cost_usd(cloud.clock.now()) for box in boxes_of(cloud, home, key)) * MICROS


def account(cloud: GceEmulator, home: Path) -> Account:
    """Of one home. What is left counts instances, disks and firewall rules alike."""
    attempts = rows(home, "SELECT * FROM attempt")
    budgets = {row["id"]: row["budget_micros"] for row in rows(home, "SELECT id, budget_micros FROM job")}
    metered = {each["key"]: spent(cloud, home, each["key"]) for each in attempts}
    by_job: dict[str, float] = dict.fromkeys(budgets, 0.0)
    for each in attempts:
        by_job[each["job_id"]] += metered[each["key"]]
    ended = [each for each in attempts if each["state"] == "ended"]
    return Account(
        pods=len(boxes_of(cloud, home)),
        pods_left=len(cloud.left()),
        over_reservation=excess((metered[each["key"]], each["reserved_micros"]) for each in attempts),
        over_budget=excess((by_job[job], budget) for job, budget in budgets.items()),
        unbooked=excess((metered[each["key"]], each["cost_micros"]) for each in ended),
        results_lost=sum(results_are_lost(home, each) for each in ended),
    )
