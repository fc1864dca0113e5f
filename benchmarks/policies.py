"""What jobs really cost under this planner and under what others do, over real prices.

    .venv/bin/python benchmarks/policies.py [JOBS]         (1,000 jobs unless named)

A population of jobs: those of the five source documents, and generated ones. Every job has a predicted need of VRAM
and RAM and a predicted time; what it really takes differs as measured: log-normal, sigma 0.06 to 0.15 for memory, 0.2
for time on top of 0.15 for each kind of GPU. Machines fail by the coin of their backend. Each policy meets the same
truth, and is measured against somebody who knows it all: by money, and by what the policy itself is after.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import fmean

from kit import machine, table
from price_table import real_offers

from backends.base import Offer
from backends.billing import price_of
from orchestrator.catalog.providers import provider
from orchestrator.planning.duration import Course, Workload, course
from orchestrator.planning.knowledge import Knowledge, Seen
from orchestrator.planning.ladder import make_plan
from orchestrator.planning.need import MemoryNeed, VariantNeed
from orchestrator.planning.outlook import OUT_SHARE, Facts
from orchestrator.planning.plan import Priority
from orchestrator.planning.weights import WEIGHTS, Weights
from orchestrator.spec.model import JobSpec

GB = 10**9
ATTEMPTS = 4
MONEY = Weights(hour=0.0, failure=0.0, quality=0.0, target=0.0)
"""Nothing but dollars."""

DOCUMENTS = (("deepseek-ocr", 7.4, 8, 0.6), ("phi15-ocr", 22.9, 9, 1.5), ("sparsae-medium", 21, 8, 2.0),
             ("sparsae-small", 6.5, 6, 1.0), ("llama31-8b", 6.1, 6, 0.15))  # fmt: skip
"""Name, VRAM and RAM in GB, hours on an A100."""


@dataclass(frozen=True, slots=True)
class Work:
    """One job: what is predicted of it, and the truth."""

    spec: JobSpec
    facts: Facts
    vram: int
    ram: int
    seed: int
    budget: int = 0

    @property
    def need(self) -> VariantNeed:
        return self.facts.needs["default"]

    def course(self, offer: Offer) -> Course:
        """What is predicted of its time there."""
        return course(self.spec, self.spec.resolved("default"), offer, Knowledge(), Workload())

    def seconds(self, offer: Offer) -> float:
        """What it really runs there."""
        slow = random.Random(self.seed).gauss(0, 0.2)
        kind = random.Random(f"{self.seed} {offer.gpu}").gauss(0, 0.15)
        return self.course(offer).run.median * math.exp(slow + kind)

    def holds(self, offer: Offer, attempt: int) -> bool:
        """Whether the machine does not fail in that attempt."""
        chance = provider(offer.backend).holds
        return random.Random(f"{self.seed} {attempt}").random() < chance

    def fits(self, offer: Offer) -> bool:
        """Whether it really has enough memory."""
        return self.vram <= offer.vram_bytes and self.ram <= offer.ram_bytes


@dataclass(slots=True)
class Bill:
    """What one job came to."""

    succeeded: bool = False
    micros: int = 0
    wasted: int = 0
    seconds: float = 0.0
    seen: list[Seen] = field(default_factory=list)

    def weighed(self, weights: Weights) -> float:
        """Dollars of all that counts by ``weights``."""
        failed = len(self.seen) - self.succeeded
        return self.micros / 1e6 + weights.hour * self.seconds / 3600 + weights.failure * max(0, failed)

    def attempt(self, work: Work, offer: Offer, allowed: float = math.inf) -> str:
        """Run it there; how that ended."""
        run, whole = work.course(offer), work.seconds(offer)
        around = run.setup.mean + run.fetch.mean
        if not work.holds(offer, len(self.seen)):
            outcome, seconds = "unreachable", run.setup.mean
        elif not work.fits(offer):
            outcome = "oom_host" if work.ram > offer.ram_bytes else "oom_gpu"
            seconds = run.setup.mean + OUT_SHARE * whole
        elif around + whole > allowed:
            outcome, seconds = "deadline", allowed
        else:
            outcome, seconds = "succeeded", around + whole
        micros = price_of(offer).micros(seconds)
        self.micros += micros
        self.seconds += seconds
        self.wasted += 0 if outcome == "succeeded" else micros
        self.succeeded = outcome == "succeeded"
        self.seen.append(
            Seen("default", offer.backend, offer.name, outcome, offer.ram_bytes, offer.vram_bytes, this_job=True)
        )
        return outcome


Policy = Callable[[Work, list[Offer]], Bill]


def ours(priority: Priority) -> Policy:
    """This planner, planning anew after every attempt."""

    def policy(work: Work, offers: list[Offer]) -> Bill:
        bill, by_name = Bill(), {(o.backend, o.name): o for o in offers}
        while len(bill.seen) < ATTEMPTS:
            plan = make_plan(
                work.spec, offers, Knowledge(tuple(bill.seen)), work.budget - bill.micros, priority,
                attempts_left=ATTEMPTS - len(bill.seen), facts=work.facts,
            )  # fmt: skip
            if not plan.ladder:
                break
            rung = plan.ladder[0]
            if bill.attempt(work, by_name[rung.backend, rung.offer], rung.allowed_seconds) in ("succeeded", "deadline"):
                break
        return bill

    return policy


def cheapest_that_fits(work: Work, offers: list[Offer]) -> Bill:
    """By the price of an hour among those with the predicted need; the next where it cannot be had; none after OOM."""
    fitting = [o for o in offers if _expected_to_fit(work, o)]
    return _in_turn(work, sorted(fitting, key=lambda o: (o.micros_per_hour, o.name)), after_oom=False)


def always_the_biggest(work: Work, offers: list[Offer]) -> Bill:
    """The most VRAM there is, at the lowest price of an hour."""
    return _in_turn(work, sorted(offers, key=lambda o: (-o.vram_bytes, o.micros_per_hour, o.name)), after_oom=True)


def fixed_ladder(work: Work, offers: list[Offer]) -> Bill:
    """GPUs by size, the first with the predicted need and then the next larger whatever went wrong: modal-gpu-retry."""
    rungs = []
    for gpu in ("T4", "L4", "L40S", "A100 80GB PCIe", "H100 SXM", "H200 SXM", "B200"):
        named = [o for o in offers if o.gpu == gpu]
        rungs += sorted(named, key=lambda o: (o.micros_per_hour, o.name))[:1]
    return _in_turn(work, [o for o in rungs if _expected_to_fit(work, o)], after_oom=True)


def clairvoyant(weights: Weights) -> Policy:
    """Knows what the job takes and that the machine will hold: the best by ``weights`` that the budget pays for."""

    def policy(work: Work, offers: list[Offer]) -> Bill:
        bills = [_straight(work, offer) for offer in offers if work.fits(offer)]
        payable = [bill for bill in bills if bill.micros <= work.budget] or bills
        return min(payable, key=lambda bill: (bill.weighed(weights), bill.micros))

    return policy


def _straight(work: Work, offer: Offer) -> Bill:
    """What it comes to there if the machine holds and the memory is enough."""
    run = work.course(offer)
    seconds = run.setup.mean + run.fetch.mean + work.seconds(offer)
    return Bill(succeeded=True, micros=price_of(offer).micros(seconds), seconds=seconds)


def knows_the_memory(work: Work, offers: list[Offer]) -> Bill:
    """Knows what fits and that the machine will hold, but of the time only what is predicted."""
    fitting = [o for o in offers if work.fits(o)]
    return _straight(work, min(fitting, key=lambda o: price_of(o).micros(work.course(o).total.mean)))


def _expected_to_fit(work: Work, offer: Offer) -> bool:
    vram, ram = work.need.vram, work.need.ram
    assert vram
    assert ram
    return vram.median_bytes <= offer.vram_bytes and ram.median_bytes <= offer.ram_bytes


def _in_turn(work: Work, offers: list[Offer], *, after_oom: bool) -> Bill:
    bill = Bill()
    for offer in offers[:ATTEMPTS]:
        outcome = bill.attempt(work, offer)
        if outcome == "succeeded" or (outcome.startswith("oom") and not after_oom):
            break
    return bill


def population(count: int, offers: list[Offer]) -> Iterator[Work]:
    """The documents' jobs, and generated ones for the rest; all of them can be done with some offer."""
    chance = random.Random(2026)
    made = 0
    while made < count:
        name, vram, ram, hours = DOCUMENTS[made % 5] if made < count // 4 else (
            "generated", math.exp(chance.uniform(math.log(3), math.log(120))), chance.uniform(4, 24),
            math.exp(chance.uniform(math.log(0.2), math.log(8))),
        )  # fmt: skip
        sigma = chance.uniform(0.06, 0.15)
        work = Work(
            _spec(name, hours),
            Facts({"default": VariantNeed(MemoryNeed(int(vram * GB), sigma), MemoryNeed(int(ram * GB), 0.1), "high")}),
            vram=int(vram * GB * math.exp(chance.gauss(0, sigma))),
            ram=int(ram * GB * math.exp(chance.gauss(0, 0.1))),
            seed=chance.randrange(1 << 30),
        )
        if any(work.fits(offer) for offer in offers):
            least = clairvoyant(MONEY)(work, offers).micros
            yield Work(work.spec, work.facts, work.vram, work.ram, work.seed, int(least * chance.uniform(2.5, 10)))
            made += 1


def _spec(name: str, hours: float) -> JobSpec:
    return JobSpec.from_json(
        {"name": name, "run": "true", "setup": "true", "results": ["out/"], "needs": {"gpu": 1},
         "duration": {"on": "A100", "minutes": hours * 60}, "limits": {"attempts": ATTEMPTS}}
    )  # fmt: skip


POLICIES: dict[str, tuple[Policy, Weights]] = {
    **{f"gpujob, {priority.value}": (ours(priority), WEIGHTS[priority]) for priority in Priority},
    "cheapest that fits": (cheapest_that_fits, MONEY),
    "always the biggest": (always_the_biggest, MONEY),
    "fixed ladder": (fixed_ladder, MONEY),
    "knows the memory": (knows_the_memory, MONEY),
    "clairvoyant": (clairvoyant(MONEY), MONEY),
}
"""Each policy, and what it is after."""

HEADERS = (
    "policy", "cost per success", "money over clairvoyant", "own aim over clairvoyant", "hours per success", "success",
    "wasted", "over budget",
)  # fmt: skip


def main() -> None:
    offers = [o for o in real_offers() if o.gpu_count == 1 and not o.name.endswith("-spot")]
    works = list(population(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, offers))
    rows = []
    for name, (policy, weights) in POLICIES.items():
        bills = [policy(work, offers) for work in works]
        rows.append([name, *_row(bills, works, offers, weights)])
    print(f"{machine()}. {len(works)} jobs, {len(offers)} offers.\n")
    print(table(HEADERS, rows))


def _row(bills: list[Bill], works: list[Work], offers: list[Offer], weights: Weights) -> list[str]:
    done = sum(bill.succeeded for bill in bills)
    return [
        f"${sum(bill.micros for bill in bills) / done / 1e6:.2f}",
        f"{_over_the_best(bills, works, offers, MONEY):+.1%}",
        f"{_over_the_best(bills, works, offers, weights):+.1%}",
        f"{sum(bill.seconds for bill in bills) / done / 3600:.2f}",
        f"{done / len(bills):.1%}",
        f"${sum(bill.wasted for bill in bills) / len(bills) / 1e6:.3f}",
        f"{fmean(bill.micros > work.budget for bill, work in zip(bills, works, strict=True)):.1%}",
    ]


def _over_the_best(bills: list[Bill], works: list[Work], offers: list[Offer], weights: Weights) -> float:
    """By how much the jobs that succeeded weigh more than the same jobs of somebody who knew all."""
    best = clairvoyant(weights)
    pairs = [(bill, best(work, offers)) for bill, work in zip(bills, works, strict=True) if bill.succeeded]
    return sum(mine.weighed(weights) for mine, _ in pairs) / sum(ideal.weighed(weights) for _, ideal in pairs) - 1


if __name__ == "__main__":
    main()
