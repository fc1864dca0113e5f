"""How long a plan takes over a large catalogue: the table of real prices, repeated under other names and prices.

    .venv/bin/python benchmarks/planning.py [COUNT ...]        (1,000 and 20,000 unless named)

Aim: under 100 ms for 20,000 offers.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from dataclasses import replace
from itertools import cycle, islice

from kit import machine, ms, table
from price_table import real_offers

from backends.base import Offer
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.ladder import make_plan
from orchestrator.planning.need import MemoryNeed, VariantNeed
from orchestrator.planning.outlook import Facts
from orchestrator.planning.plan import Priority
from orchestrator.spec.model import JobSpec

GB = 10**9
ROUNDS = 7
NEEDS = {"full": 34, "checkpointed": 22, "lora": 13}


def catalogue(real: list[Offer], count: int) -> list[Offer]:
    """``count`` offers: the real ones in turn, each time as in another region, up to a fifth dearer."""
    chance = random.Random(1)
    repeated = islice(cycle(real), count)
    return [
        replace(
            offer, name=f"{offer.name}-{place}", micros_per_hour=int(offer.micros_per_hour * chance.uniform(1, 1.2))
        )
        for place, offer in enumerate(repeated)
    ]


def job(variants: int) -> tuple[JobSpec, Facts]:
    """A training job in up to three variants, with predicted memory."""
    names = list(NEEDS)[:variants]
    listed = [{"name": name, "quality": 1 - place / 50} for place, name in enumerate(names)]
    spec = JobSpec.from_json(
        {
            "name": "phi",
            "run": "true",
            "variants": listed,
            "needs": {"gpu": 1, "ram": "12 GB"},
            "duration": {"on": "A100", "minutes": 90},
        }
    )
    return spec, Facts({name: VariantNeed(MemoryNeed(NEEDS[name] * GB, 0.1), None, "high") for name in names})


def seconds_to_plan(offers: list[Offer], variants: int, priority: Priority) -> float:
    """The median of a few rounds, of CPU time: benchmarks share their machine."""
    spec, facts = job(variants)
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        make_plan(spec, offers, Knowledge(), 20_000_000, priority, facts=facts)
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def main() -> None:
    real = real_offers()
    counts = [int(each) for each in sys.argv[1:]] or [1000, 20_000]
    rows = []
    for count in counts:
        offers = catalogue(real, count)
        for variants in (1, 3):
            taken = [ms(seconds_to_plan(offers, variants, priority)) for priority in Priority]
            rows.append([f"{count:,} offers, {variants} variant{'s' * (variants > 1)}", *taken])
    print(machine() + "\n")
    print(table(["", *(priority.value for priority in Priority)], rows))


if __name__ == "__main__":
    main()
