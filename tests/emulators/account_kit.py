"""What must hold when renting is over: the emulator's own meter, list and processes against one home's journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.home import Home
from orchestrator.records.reading import Reader
from tests.emulators.runpod import Pod, RunPodEmulator

MICROS = 1_000_000
SLACK_MICROS = 1
"""The meter counts in floating point, the journal in whole micro-dollars."""


@dataclass(frozen=True)
class Account:
    """The figures of docs/reliability.md. Money in micro-dollars by the emulator's meter."""

    machines: int
    machines_left: int
    over_reservation: int
    over_budget: int
    unbooked: int
    """What machines cost more than the journal has charged for them."""
    results_lost: int

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.machines_left or self.over_reservation or self.over_budget or self.results_lost)


def account(cloud: RunPodEmulator, home: Path) -> Account:
    """Of one home, whoever else rents from the same cloud."""
    pods = pods_of(cloud, home)
    left = sum(pod.status != "TERMINATED" for pod in pods)
    return account_of(home, len(pods), left, lambda key: spent(cloud, home, key))


def account_of(home: Path, machines: int, left: int, spent_by: Callable[[str], float]) -> Account:
    """What they mean for a home; ``spent_by`` gives the micro-dollars that an attempt's key has cost."""
    attempts = rows(home, "SELECT * FROM attempt")
    budgets = {row["id"]: row["budget_micros"] for row in rows(home, "SELECT id, budget_micros FROM job")}
    metered = {each["key"]: spent_by(each["key"]) for each in attempts}
    by_job: dict[str, float] = dict.fromkeys(budgets, 0.0)
    for each in attempts:
        by_job[each["job_id"]] += metered[each["key"]]
    ended = [each for each in attempts if each["state"] == "ended"]
    return Account(
        machines=machines,
        machines_left=left,
        over_reservation=excess((metered[each["key"]], each["reserved_micros"]) for each in attempts),
        over_budget=excess((by_job[job], budget) for job, budget in budgets.items()),
        unbooked=excess((metered[each["key"]], each["cost_micros"]) for each in ended),
        results_lost=sum(results_are_lost(home, each) for each in ended),
    )


def tell(told: Callable[[str, object], None], accounts: Iterable[Account]) -> None:
    """Record what tools/reliability.py makes its table of, added up."""
    listed = list(accounts)
    told("machines_left", sum(each.machines_left for each in listed))
    told("over_reservation_usd", sum(each.over_reservation + each.over_budget for each in listed) / MICROS)
    told("results_lost", sum(each.results_lost for each in listed))


def rows(home: Path, query: str, *values: Any) -> list[dict[str, Any]]:
    """What the journal of a home says."""
    reader = Reader(Home(home).journal)
    try:
        return reader.rows(query, values)
    finally:
        reader.close()


def pods_of(cloud: RunPodEmulator, home: Path, key: str | None = None) -> list[Pod]:
    """Every pod that the home ever rented, or those of one attempt, by the marks in its environment."""
    owner = home / "runpod" / "owner"
    word = owner.read_text().strip() if owner.exists() else None
    return [
        pod
        for pod in cloud.created
        if word and pod.order.env.get("GPUJOB_OWNER") == word and key in (None, pod.order.env["GPUJOB_KEY"])
    ]


def spent(cloud: RunPodEmulator, home: Path, key: str) -> float:
    """What the pods of one attempt have cost, in micro-dollars, twins included."""
    return sum(cloud.meter(pod.id).total for pod in pods_of(cloud, home, key)) * MICROS


def excess(pairs: Iterable[tuple[float, int]]) -> int:
    """By how many micro-dollars costs are above their limits, added up."""
    return round(sum(max(0.0, cost - limit - SLACK_MICROS) for cost, limit in pairs))


def results_are_lost(home: Path, attempt: dict[str, Any]) -> bool:
    """Whether a command ended by itself and nothing of it came home: every job of these tests leaves something."""
    if attempt["exit_code"] is None and attempt["signal"] is None:
        return False
    folder = Home(home).fetched(attempt["job_id"], attempt["number"])
    return not any(path.is_file() for path in folder.rglob("*"))
