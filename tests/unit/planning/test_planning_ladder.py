"""The order of the ladder, its money, its reasons, and the word on what to change when there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from planning_kit import USD, gpu_machine, job, machine, only_rejection, plan, rungs, seen

from backends.units import cost_micros, parse_usd
from orchestrator.planning.estimate import OVERHEAD_SECONDS, P_BACKEND_UNKNOWN, P_FITS_DECLARED, P_FITS_SEEN
from orchestrator.planning.ladder import WEIGHTS
from orchestrator.planning.plan import Code, Plan, Priority

HOUR = {"on": "cpu", "minutes": 60}
RUNG_KEYS = {
    "rank", "backend", "offer", "gpu", "variant", "usd_per_hour", "expected_minutes", "expected_usd",
    "worst_case_usd", "p_success", "reasons",
}  # fmt: skip
FURTHER_RUNG_KEYS = {"quality", "allowed_minutes", "ram_capacity_bytes", "vram_capacity_bytes", "ram_cap_bytes"}


class TestOrder:
    """What comes first, and what does not come at all."""

    spec = job(
        {"name": "full", "needs": {"ram": "16 GB"}},
        {"name": "rough", "needs": {"ram": "8 GB"}, "quality": 0.9},
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
        assert rungs(plan(job("a"), machine("m", ram=8), machine("n", ram=9))) == [("a", "n")]

    def test_a_rung_without_more_memory_is_left_out(self) -> None:
        made = plan(job("a"), machine("m", usd="1"), machine("n", usd="2"), machine("o", usd="3", ram=32))
        assert rungs(made) == [("a", "m"), ("a", "o")]
        assert only_rejection(made, Code.SAME_HEADROOM).reason == (
            "has no more memory (16 GB of RAM) than cloud m, which is on the ladder; it is tried if that one "
            "cannot be had"
        )

    def test_more_vram_is_more_headroom_for_a_job_on_gpus(self) -> None:
        spec = job({"name": "a", "needs": {"gpu": 1}})
        made = plan(spec, gpu_machine("m", usd="1"), gpu_machine("n", usd="2", vram=24))
        assert rungs(made) == [("a", "m"), ("a", "n")]

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


class TestTime:
    def expected(self, made: Plan) -> tuple[float, str]:
        return made.ladder[0].expected_seconds, made.ladder[0].reasons[-1]

    def test_nothing_known(self) -> None:
        made = plan(job("a"), machine("m"))
        assert self.expected(made) == (1800, "nothing says how long it takes: 30 min assumed")

    def test_declared(self) -> None:
        made = plan(job("a", duration={"on": "T4", "minutes": 90}), machine("m"))
        assert self.expected(made) == (5400, "the spec expects 1 h 30 min on T4")

    def test_measured_replaces_declared(self) -> None:
        known = tuple(seen("a", "succeeded", "m", run_seconds=s, this_job=False) for s in (10.0, 30.0, 90.0))
        made = plan(job("a", duration=HOUR), machine("m"), known=known)
        assert self.expected(made) == (30, "took 30 s here before")

    def test_measured_elsewhere_replaces_the_guess_only(self) -> None:
        known = (seen("a", "succeeded", "other", run_seconds=10.0, this_job=False),)
        assert self.expected(plan(job("a"), machine("m"), known=known)) == (10, "took 10 s elsewhere before")
        assert self.expected(plan(job("a", duration=HOUR), machine("m"), known=known))[0] == 3600

    def test_failures_teach_no_duration(self) -> None:
        known = (seen("a", "oom_host", "m", run_seconds=1.0, ram=1, this_job=False),)
        assert self.expected(plan(job("a"), machine("m"), known=known))[0] == 1800

    def test_never_longer_than_the_limit(self) -> None:
        made = plan(job("a", duration=HOUR, limits={"runtime": "10m"}), machine("m"))
        assert self.expected(made) == (
            600,
            "the spec expects 1 h 00 min on cpu, but limits.runtime ends it after 10 min",
        )


class TestChance:
    def chance(self, made: Plan) -> tuple[float, str]:
        return made.ladder[0].p_success, "; ".join(made.ladder[0].reasons)

    def test_declared_beats_undeclared(self) -> None:
        declared, words = self.chance(plan(job({"name": "a", "needs": {"ram": "8 GB"}}), machine("m")))
        undeclared, others = self.chance(plan(job("a"), machine("m")))
        assert declared == P_FITS_DECLARED * P_BACKEND_UNKNOWN > undeclared
        assert "the spec declares that 8 GB of RAM is enough" in words
        assert "RAM need not declared; has 16 GB" in others

    def test_a_measured_peak_with_room_to_spare(self) -> None:
        known = (seen("a", "succeeded", peak_ram_bytes=10**10, this_job=False),)
        p, words = self.chance(plan(job("a"), machine("m", ram=11), known=known))
        assert p == P_FITS_SEEN * P_BACKEND_UNKNOWN
        assert "used at most 10 GB of RAM before; has 11 GB" in words
        assert self.chance(plan(job("a"), machine("m", ram=10.9), known=known))[0] < p

    def test_as_much_as_went_through_before(self) -> None:
        """A cap fills up with file pages, so a peak may stand at the cap of a run that went well."""
        known = (seen("a", "succeeded", peak_ram_bytes=4 * 10**8, ram=0.4, this_job=False),)
        spec = job({"name": "a", "needs": {"ram": "400 MB"}})
        p, words = self.chance(plan(spec, machine("m", shared=True), known=known))
        assert p == P_FITS_SEEN * P_BACKEND_UNKNOWN
        assert "went through with 400 MB of RAM before" in words

    def test_the_weaker_memory_decides(self) -> None:
        known = (seen("a", "succeeded", peak_ram_bytes=10**9, this_job=False),)
        p, words = self.chance(plan(job({"name": "a", "needs": {"gpu": 1}}), gpu_machine("m"), known=known))
        assert p == 0.7 * P_BACKEND_UNKNOWN
        assert "used at most 1 GB of RAM before" in words
        assert "VRAM need not declared; has 16 GB" in words


class TestMoney:
    spec = job("a", duration=HOUR)

    def test_nothing_is_spent_on_what_is_free(self) -> None:
        made = plan(self.spec, machine("free", ram=8), machine("paid", usd="1"), budget="0")
        assert rungs(made) == [("a", "free")]
        assert made.worst_case_micros == made.expected_micros == 0

    def test_with_enough_money_four_times_the_expected_time_is_reserved(self) -> None:
        (rung,) = plan(self.spec, machine("m", usd="1")).ladder
        assert rung.allowed_seconds == 4 * 3600 + OVERHEAD_SECONDS
        assert rung.worst_case_micros == cost_micros(USD, rung.allowed_seconds)

    def test_the_limit_on_runtime_bounds_what_is_reserved(self) -> None:
        spec = job("a", duration=HOUR, limits={"runtime": "90m"})
        assert plan(spec, machine("m", usd="1")).ladder[0].allowed_seconds == 5400 + OVERHEAD_SECONDS
        assert plan(spec, machine("m")).ladder[0].allowed_seconds == 5400 + OVERHEAD_SECONDS

    def test_the_last_cent_goes_into_time(self) -> None:
        (rung,) = plan(self.spec, machine("m", usd="1"), budget="1.50").ladder
        assert rung.worst_case_micros == 1_500_000
        assert rung.allowed_seconds == 5400

    def test_a_rung_leaves_money_for_those_below(self) -> None:
        """The first could use up all of it, and then nothing could follow an out of memory."""
        made = plan(self.spec, machine("m", usd="1"), machine("n", usd="1.01", ram=32), budget="4")
        assert rungs(made) == [("a", "m"), ("a", "n")]
        first, second = made.ladder
        assert first.allowed_seconds == pytest.approx(2 * 3600 + OVERHEAD_SECONDS, abs=0.01)
        assert second.allowed_seconds > 3600 + OVERHEAD_SECONDS
        assert made.worst_case_micros <= 4 * USD

    def test_exactly_enough_is_enough(self) -> None:
        needed = cost_micros(USD, 3600 + OVERHEAD_SECONDS)
        offer = machine("m", usd="1")
        assert plan(self.spec, offer, budget=f"{needed}e-6").ladder[0].worst_case_micros == needed
        assert not plan(self.spec, offer, budget=f"{needed - 1}e-6").ladder

    def test_what_cannot_be_paid(self) -> None:
        made = plan(self.spec, machine("m", usd="2"), budget="1.5")
        refused = only_rejection(made, Code.BUDGET)
        assert refused.reason == "needs $2.17: 1 h 00 min and 5 min around it at $2.00/h; $1.50 is left"

    def test_amounts_that_round_alike_are_told_apart(self) -> None:
        made = plan(self.spec, machine("m", usd="2"), budget="2.166")
        assert "needs $2.166667: " in only_rejection(made, Code.BUDGET).reason
        assert "; $2.166 is left" in only_rejection(made, Code.BUDGET).reason

    def test_what_the_rungs_above_leave(self) -> None:
        made = plan(self.spec, machine("m", usd="1"), machine("n", usd="9", ram=32), budget="5")
        assert only_rejection(made, Code.BUDGET).reason.endswith("is left by the rungs above")
        assert made.ladder[0].worst_case_micros == cost_micros(USD, 4 * 3600 + OVERHEAD_SECONDS)

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
            "if the rungs above run out of memory: $1.00/h",
        ]
        differ = plan(job("a", {"name": "b", "quality": 0.5}), machine("m"))
        assert [rung.reasons[0] for rung in differ.ladder] == [
            "first choice: best quality, free",
            "if the rungs above run out of memory: quality 0.5, free",
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
        assert advice.startswith("Nearest: a on cloud big: needs $2.17")

    def test_what_on_oom_forbids(self) -> None:
        made = plan(job("a", on_oom={"allow": []}), machine("m", ram=64), known=(seen("a", "oom_host", ram=16),))
        assert made.advice.endswith("To change that, add bigger_machine to on_oom.allow.")


class TestSums:
    def test_later_rungs_count_as_often_as_they_are_reached(self) -> None:
        made = plan(job("a", duration=HOUR), machine("m", usd="1"), machine("n", usd="2", ram=32))
        first, second = made.ladder
        miss = 1 - first.p_success
        assert made.p_success == pytest.approx(1 - miss * (1 - second.p_success))
        assert made.expected_micros == round(first.expected_micros + miss * second.expected_micros)
        assert made.worst_case_micros == first.worst_case_micros + second.worst_case_micros


def test_the_json_is_stable() -> None:
    made = plan(job("a", duration=HOUR), gpu_machine("m", usd="1"), machine("n", ram=1, usd="0.000001"), budget="1.2")
    data = made.to_json()
    assert list(data) == [
        "budget_usd", "ladder", "p_success", "expected_usd", "worst_case_usd", "rejected", "advice",
    ]  # fmt: skip
    (rung, *_) = data["ladder"]
    assert set(rung) == RUNG_KEYS | FURTHER_RUNG_KEYS
    for money in (data["budget_usd"], data["worst_case_usd"], rung["usd_per_hour"], rung["worst_case_usd"]):
        assert re.fullmatch(r"\d+\.\d{2,6}", money)
    rejected = plan(job("a"), machine("m", usd="1"), budget="0").to_json()["rejected"]
    assert [set(each) for each in rejected] == [{"backend", "offer", "variant", "code", "reason"}]
    assert rejected[0]["code"] == "budget"


def test_the_documented_weights_are_those_of_the_code() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "planning.md").read_text(encoding="utf-8")
    for priority, weights in WEIGHTS.items():
        assert f"| `{priority}` | {weights.hour:g} | {weights.failure:g} | {weights.quality:g} |" in page


def test_the_documented_codes_are_those_of_the_code() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "planning.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| [^|\d]+ \|$", page, re.MULTILINE) == [code.value for code in Code]
