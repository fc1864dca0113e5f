"""The order of the ladder, its money, its reasons, and the word on what to change when there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from planning_kit import GB, USD, gpu_machine, job, machine, only_rejection, plan, rungs, seen

from backends.units import cost_micros, parse_usd
from orchestrator.catalog.providers import provider
from orchestrator.planning.memory_need import P_DECLARED, P_SEEN
from orchestrator.planning.need import MemoryNeed, VariantNeed
from orchestrator.planning.outlook import Facts
from orchestrator.planning.plan import Code, Plan, Priority
from orchestrator.planning.reservation import ENDING_SECONDS, OVERHEAD_SECONDS
from orchestrator.planning.weights import WEIGHTS

HOUR = {"on": "cpu", "minutes": 60}
RUNG_KEYS = {
    "rank", "backend", "offer", "gpu", "variant", "usd_per_hour", "expected_minutes", "expected_usd",
    "worst_case_usd", "p_success", "reasons",
}  # fmt: skip
FURTHER_RUNG_KEYS = {
    "p_oom",
    "p_reached", "needed_usd", "wait_minutes", "quality", "allowed_minutes", "ram_capacity_bytes",
    "vram_capacity_bytes", "ram_cap_bytes",
}  # fmt: skip

HOLDS = provider("cloud").holds


class TestOrder:
    """What comes first, and what does not come at all."""

    spec = job(
        {"name": "full", "needs": {"ram": "16 GB"}},
        {"name": "rough", "needs": {"ram": "8 GB"}, "quality": 0.95},
        duration=HOUR,
    )
    offers = (machine("slow", usd="0.2"), machine("quick", usd="9"), machine("home", "local", usd="1.5"))
    known = (
        seen("full", "succeeded", "slow", this_job=False, run_seconds=7200.0, ram=16),
        seen("full", "succeeded", "quick", this_job=False, run_seconds=600.0, ram=16),
        seen("rough", "succeeded", "slow", this_job=False, run_seconds=3600.0, ram=16),
    )

    @pytest.mark.parametrize(
        ("priority", "first"),
        [
            (Priority.COST, ("rough", "slow")),
            (Priority.SPEED, ("full", "quick")),
            (Priority.BALANCED, ("full", "quick")),
        ],
    )
    def test_first_rung(self, priority: Priority, first: tuple[str, str]) -> None:
        assert rungs(plan(self.spec, *self.offers, known=self.known, priority=priority))[0] == first

    def test_reliability_pays_for_a_backend_that_fails_less(self) -> None:
        offers = (machine("cheap", usd="0.1"), machine("home", "local", usd="0.5"))
        spec = job("a", duration=HOUR)
        assert rungs(plan(spec, *offers, priority=Priority.COST))[0] == ("a", "cheap")
        assert rungs(plan(spec, *offers, priority=Priority.RELIABILITY))[0] == ("a", "home")

    def test_equals_keep_the_order_of_the_spec(self) -> None:
        assert rungs(plan(job("z", "a"), machine("m"))) == [("z", "m"), ("a", "m")]

    def test_among_equals_the_bigger_machine_comes_first(self) -> None:
        spec = job({"name": "a", "needs": {"ram": "1 GB"}})
        assert rungs(plan(spec, machine("m", ram=8), machine("n", ram=9))) == [("a", "n"), ("a", "m")]

    def test_a_rung_without_more_memory_is_for_when_the_one_above_cannot_be_had(self) -> None:
        made = plan(job("a"), machine("m", usd="1"), machine("n", usd="2"))
        assert rungs(made) == [("a", "m"), ("a", "n")]
        assert made.ladder[1].p_reached == pytest.approx(1 - HOLDS)

    def test_without_room_for_it_the_reason_is_its_memory(self) -> None:
        spec = job("a", limits={"attempts": 1})
        made = plan(spec, machine("m", usd="1"), machine("n", usd="2", disk=101))
        assert rungs(made) == [("a", "m")]
        assert only_rejection(made, Code.SAME_HEADROOM).reason == (
            "has no more memory (16 GB of RAM) than cloud m, which is on the ladder; it is tried if that one "
            "cannot be had"
        )

    def test_of_the_same_machine_the_cheapest_counts(self) -> None:
        made = plan(job("a", limits={"attempts": 1}), machine("m", usd="1"), machine("n", usd="2"))
        assert only_rejection(made, Code.DEARER).reason == "no cheaper than m, the same machine for $1.00/h"

    def test_more_vram_is_more_headroom_for_a_job_on_gpus(self) -> None:
        spec = job({"name": "a", "needs": {"gpu": 1}})
        made = plan(spec, gpu_machine("m", usd="1"), gpu_machine("n", usd="9", vram=80))
        assert rungs(made) == [("a", "m"), ("a", "n")]
        assert made.ladder[1].p_reached > 2 * (1 - HOLDS)

    def test_attempts_are_counted(self) -> None:
        spec = job("a", "b", "c", limits={"attempts": 3})
        made = plan(spec, machine("m"), attempts_left=2, first_rank=2)
        assert [(rung.rank, rung.variant) for rung in made.ladder] == [(2, "a"), (3, "b")]
        assert only_rejection(made, Code.ATTEMPTS).reason == (
            "limits.attempts is 3, of which 1 is used up, and better rungs come first"
        )

    @pytest.mark.parametrize("left", [0, -1])
    def test_no_attempt_left(self, left: int) -> None:
        made = plan(job("a", limits={"attempts": 3}), machine("m"), attempts_left=left)
        assert not made.ladder
        assert "limits.attempts is 3, of which 3 are used up. To change that, raise limits.attempts" in made.advice


class TestChance:
    def chance(self, made: Plan) -> tuple[float, str]:
        return made.ladder[0].p_success, "; ".join(made.ladder[0].reasons)

    def test_declared_beats_undeclared(self) -> None:
        declared, words = self.chance(plan(job({"name": "a", "needs": {"ram": "8 GB"}}), machine("m")))
        undeclared, others = self.chance(plan(job("a"), machine("m")))
        assert declared > undeclared
        assert "the spec declares that 8 GB of RAM is enough; has 16 GB" in words
        assert "RAM need not declared; has 16 GB" in others

    def test_just_what_is_declared_suffices_mostly(self) -> None:
        spec = job({"name": "a", "needs": {"ram": "8 GB"}}, limits={"attempts": 1})
        assert plan(spec, machine("m", ram=8)).p_success == pytest.approx(P_DECLARED * HOLDS, abs=0.01)

    def test_a_measured_peak_with_room_to_spare(self) -> None:
        known = (seen("a", "succeeded", peak_ram_bytes=10**10, this_job=False),)
        p, words = self.chance(plan(job("a"), machine("m", ram=11), known=known))
        assert p == pytest.approx(P_SEEN * HOLDS, abs=0.01)
        assert "used at most 10 GB of RAM before; has 11 GB" in words
        assert self.chance(plan(job("a"), machine("m", ram=10.1), known=known))[0] < p

    def test_as_much_as_went_through_before(self) -> None:
        """A cap fills up with file pages, so a peak may stand at the cap of a run that went well."""
        known = (seen("a", "succeeded", peak_ram_bytes=4 * 10**8, ram=0.4, this_job=False),)
        spec = job({"name": "a", "needs": {"ram": "400 MB"}})
        p, words = self.chance(plan(spec, machine("m", shared=True), known=known))
        assert p == pytest.approx(P_SEEN * HOLDS, abs=0.01)
        assert "went through with 400 MB of RAM before" in words

    def test_both_memories_must_suffice(self) -> None:
        spec = job({"name": "a", "needs": {"gpu": 1}}, limits={"attempts": 1})
        tight, roomy = (plan(spec, gpu_machine("m", vram=vram)).p_success for vram in (16, 80))
        assert tight < 0.8 < roomy < HOLDS

    def test_a_prediction_replaces_the_guess_and_is_shared_by_the_variants(self) -> None:
        """What ran out of memory shows that the other variant, too, needs more than was predicted."""
        spec = job({"name": "a", "needs": {"gpu": 1}}, {"name": "b", "needs": {"gpu": 1}}, limits={"attempts": 1})
        needs = {name: VariantNeed(MemoryNeed(size * GB, 0.1), None, "high") for name, size in (("a", 16), ("b", 14))}
        facts = Facts(needs=needs)
        fresh = plan(spec, gpu_machine("m", ram=256), facts=facts)
        after = plan(
            spec, gpu_machine("m", ram=256), known=(seen("a", "oom_gpu", "x", vram=17),), facts=facts, attempts_left=1
        )
        assert rungs(fresh) == rungs(after) == [("b", "m")]
        assert fresh.p_success > 0.85 > after.p_success
        assert "VRAM predicted: 14 GB" in "; ".join(fresh.ladder[0].reasons)


class TestMoney:
    spec = job("a", duration=HOUR)

    def test_nothing_is_spent_on_what_is_free(self) -> None:
        made = plan(self.spec, machine("free", ram=8), machine("paid", usd="1"), budget="0")
        assert rungs(made) == [("a", "free")]
        assert made.worst_case_micros == made.expected_micros == 0

    def test_money_that_no_rung_needs_becomes_time(self) -> None:
        (poor,) = plan(self.spec, machine("m", usd="1"), budget="2.5").ladder
        (rich,) = plan(self.spec, machine("m", usd="1")).ladder
        assert poor.worst_case_micros <= 2_500_000 < rich.worst_case_micros
        assert poor.allowed_seconds < rich.allowed_seconds < 4 * 3600
        assert rich.worst_case_micros == cost_micros(USD, rich.allowed_seconds)

    def test_the_limit_on_runtime_bounds_what_is_reserved(self) -> None:
        spec = job("a", duration=HOUR, limits={"runtime": "61m"})
        assert plan(spec, machine("m", "local", usd="1")).ladder[0].allowed_seconds < 3660 + ENDING_SECONDS + 2
        assert plan(spec, machine("m", "local")).ladder[0].allowed_seconds == 3660 + OVERHEAD_SECONDS

    def test_the_last_cent_goes_into_time(self) -> None:
        (rung,) = plan(self.spec, machine("m", usd="1"), budget="2.2").ladder
        assert rung.worst_case_micros == 2_200_000
        assert rung.allowed_seconds == 7920

    def test_a_rung_leaves_money_for_those_below(self) -> None:
        """The first could use up all of it, and then nothing could follow an out of memory."""
        made = plan(self.spec, machine("m", usd="1"), machine("n", usd="1.01", ram=32), budget="4.5")
        assert rungs(made) == [("a", "m"), ("a", "n")]
        assert made.worst_case_micros <= 4_500_000

    def test_exactly_enough_is_enough(self) -> None:
        offer = machine("m", usd="1")
        refused = only_rejection(plan(self.spec, offer, budget="0"), Code.BUDGET).reason
        needed = parse_usd(refused.split()[2].rstrip(":"))
        assert plan(self.spec, offer, budget=f"{needed + 10_000}e-6").ladder
        assert not plan(self.spec, offer, budget=f"{needed - 10_000}e-6").ladder

    def test_what_cannot_be_paid(self) -> None:
        made = plan(self.spec, machine("m", usd="2"), budget="1.5")
        refused = only_rejection(made, Code.BUDGET)
        assert refused.reason == "must reserve $3.96: 1 h 59 min at $2.00/h; $1.50 is left"

    def test_what_the_rungs_above_leave(self) -> None:
        made = plan(self.spec, machine("m", usd="1"), machine("n", usd="9", ram=32), budget="18")
        assert rungs(made) == [("a", "m")]
        assert only_rejection(made, Code.BUDGET).reason.endswith("is left by the rungs above")

    def test_an_overspent_budget_buys_nothing(self) -> None:
        made = plan(self.spec, machine("m", usd="1"), machine("free", ram=8), budget="-0.01")
        assert rungs(made) == [("a", "free")]


class TestWords:
    def test_the_first_rung_of_a_later_plan_says_what_happened(self) -> None:
        known = (seen("a", "oom_host", ram=0.4),)
        made = plan(job("a", {"name": "b", "quality": 0.98}), machine("m", ram=0.4), known=known, first_rank=2)
        assert made.ladder[0].rank == 2
        assert made.ladder[0].reasons[0] == "a ran out of RAM with 400 MB in attempt 1, so next: quality 0.98, free"

    def test_the_latest_attempt_is_the_reason(self) -> None:
        known = (seen("a", "oom_host", ram=1), seen("b", "no_capacity", "m"))
        made = plan(job("a", "b"), machine("n"), known=known)
        assert made.ladder[0].reasons[0].startswith("b found no capacity in attempt 1, so next: ")

    def test_quality_is_named_where_the_variants_differ_in_it(self) -> None:
        same = plan(job("a", "b"), machine("m", usd="1"))
        assert [rung.reasons[0] for rung in same.ladder] == [
            "first choice: $1.00/h",
            "if the rungs above fail: $1.00/h",
        ]
        differ = plan(job("a", {"name": "b", "quality": 0.5}), machine("m"))
        assert [rung.reasons[0] for rung in differ.ladder] == [
            "first choice: best quality, free",
            "if the rungs above fail: quality 0.5, free",
        ]


class TestAdvice:
    def test_nothing_is_offered(self) -> None:
        assert "`gpujob backends`" in plan(job("a")).advice

    def test_there_is_none_with_a_ladder(self) -> None:
        assert plan(job("a"), machine("m")).advice == ""

    @pytest.mark.parametrize("budget", ["0", "0.01", "0.5", "1.083"])
    def test_the_amount_that_it_names_is_enough_and_a_cent_less_is_not(self, budget: str) -> None:
        offers = (machine("m", usd="1"), machine("n", usd="3"))
        spec = job("a", duration=HOUR)
        advice = plan(spec, *offers, budget=budget).advice
        found = re.search(r"To change that, raise --budget by (\$[\d.]+)\.$", advice)
        assert found, advice
        enough = parse_usd(budget) + parse_usd(found[1])
        assert plan(spec, *offers, budget=f"{enough}e-6").ladder
        assert not plan(spec, *offers, budget=f"{enough - 10_000}e-6").ladder

    def test_the_smallest_lack_is_the_nearest(self) -> None:
        spec = job({"name": "a", "needs": {"ram": "32 GB"}})
        assert plan(spec, machine("far", ram=4), machine("near", ram=30)).advice == (
            "Nearest: a on cloud near: needs 32 GB of RAM; it has 30 GB. To change that, lower needs.ram to 30 GB, "
            "add a variant that needs less, or add a backend with more."
        )

    def test_what_passed_more_checks_is_nearer(self) -> None:
        spec = job({"name": "a", "needs": {"gpu": 1, "vram": "20 GB"}}, duration=HOUR)
        advice = plan(spec, machine("cpu"), gpu_machine("t4"), gpu_machine("big", vram=24, usd="2"), budget="1").advice
        assert advice.startswith("Nearest: a on cloud big: must reserve $")

    def test_what_on_oom_forbids(self) -> None:
        made = plan(job("a", on_oom={"allow": []}), machine("m", ram=64), known=(seen("a", "oom_host", ram=16),))
        assert made.advice.endswith("To change that, add bigger_machine to on_oom.allow.")


class TestSums:
    def test_later_rungs_count_as_often_as_they_are_reached(self) -> None:
        made = plan(job("a", duration=HOUR), machine("m", usd="1"), machine("n", usd="2", ram=32))
        first, second = made.ladder
        assert second.p_reached == pytest.approx(1 - first.p_success)
        assert made.p_success == pytest.approx(first.p_success + second.p_reached * second.p_success)
        assert first.expected_micros < made.expected_micros < first.expected_micros + second.expected_micros
        assert made.worst_case_micros == first.worst_case_micros + second.worst_case_micros


def test_the_json_is_stable() -> None:
    made = plan(job("a", duration=HOUR), gpu_machine("m", usd="1"), machine("n", ram=1, usd="0.000001"), budget="2.2")
    data = made.to_json()
    assert list(data) == [
        "budget_usd", "ladder", "p_success", "expected_usd", "expected_minutes", "worst_case_usd", "rejected",
        "advice", "what_if", "notes",
    ]  # fmt: skip
    (rung, *_) = data["ladder"]
    assert set(rung) == RUNG_KEYS | FURTHER_RUNG_KEYS
    for money in (data["budget_usd"], data["worst_case_usd"], rung["usd_per_hour"], rung["worst_case_usd"]):
        assert re.fullmatch(r"\d+\.\d{2,6}", money)
    rejected = plan(job("a"), machine("m", usd="1"), budget="0").to_json()["rejected"]
    assert [set(each) for each in rejected] == [{"backend", "offer", "variant", "code", "reason", "alike", "count"}]
    assert rejected[0]["code"] == "budget"


def test_the_documented_weights_are_those_of_the_code() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "planning.md").read_text(encoding="utf-8")
    for priority, weights in WEIGHTS.items():
        cells = f"{weights.hour:g} | {weights.failure:g} | {weights.quality:g} | {weights.target:.0%}"
        assert f"| `{priority}` | {cells} |" in page


def test_the_documented_codes_are_those_of_the_code() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "planning.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| [^|\d]+ \|$", page, re.MULTILINE) == [code.value for code in Code]
