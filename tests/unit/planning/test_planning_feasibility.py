"""Every reason against a pair of offer and variant, with the number that decides it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from planning_kit import GB, gpu_machine, job, machine, only_rejection, plan, rungs, seen

from backends.base import Offer
from orchestrator.catalog.providers import provider
from orchestrator.planning.gpu_names import is_called
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.ladder import make_plan
from orchestrator.planning.plan import Code, Priority

A100 = "NVIDIA A100-SXM4-80GB"

HOLDS = provider("cloud").holds


def needs(**need: Any) -> dict[str, Any]:
    return {"name": "only", "needs": need}


@pytest.mark.parametrize(
    ("variant", "offer", "code", "words"),
    [
        (needs(ram="17 GB"), machine("m"), Code.RAM, "needs 17 GB of RAM; it has 16 GB"),
        (needs(ram="16.01 GB"), machine("m"), Code.RAM, "needs 16,010,000,000 B (it lacks 10,000,000) of RAM"),
        (needs(disk="2 TB"), machine("m"), Code.DISK, "needs 2 TB of disk; it has 100 GB free"),
        (needs(gpu=1), machine("m"), Code.GPU, "needs 1 GPU; it has no GPU"),
        (needs(gpu=2), gpu_machine("m"), Code.GPU, "needs 2 GPUs; it has 1 x Tesla T4"),
        (needs(gpu="A100"), gpu_machine("m"), Code.GPU, "needs A100; it has Tesla T4"),
        (needs(gpu={"names": ["L4", "A100"]}), gpu_machine("m"), Code.GPU, "needs one of L4, A100; it has Tesla T4"),
        (
            needs(gpu={"compute_capability": 8.0}),
            gpu_machine("m"),
            Code.GPU,
            "needs compute capability 8.0; Tesla T4 has 7.5",
        ),
        (
            needs(gpu={"compute_capability": 8.0}),
            gpu_machine("m", capability=None),
            Code.GPU,
            "needs compute capability 8.0; Tesla T4 has an unknown one",
        ),
        (needs(gpu={"vram": "24 GB"}), gpu_machine("m"), Code.VRAM, "needs 24 GB of VRAM; Tesla T4 has 16 GB usable"),
        (
            {"name": "only", "when": {"vram": ">=35 GB"}},
            gpu_machine("m"),
            Code.WHEN,
            "variant 'only' wants VRAM >= 35 GB; it has 16 GB",
        ),
        (
            {"name": "only", "when": {"ram": "<16 GB"}},
            machine("m"),
            Code.WHEN,
            "variant 'only' wants RAM < 16 GB; it has 16 GB",
        ),
    ],
)
def test_a_need_that_is_not_met(variant: dict[str, Any], offer: Offer, code: Code, words: str) -> None:
    made = plan(job(variant), offer)
    assert not made.ladder
    assert words in only_rejection(made, code).reason
    assert words in made.advice


@pytest.mark.parametrize(
    "need",
    [{"ram": "16 GB"}, {"disk": "100 GB"}, {"gpu": 1}, {"gpu": {"vram": "16 GB", "compute_capability": 7.5}}],
)
def test_a_need_that_is_met_exactly(need: dict[str, Any]) -> None:
    assert rungs(plan(job(needs(**need)), gpu_machine("m", usd="0"))) == [("only", "m")]


def test_more_gpus_than_asked_for_are_welcome() -> None:
    assert plan(job(needs(gpu=2)), gpu_machine("m", count=4)).ladder


def test_backends_that_were_not_asked_for() -> None:
    made = plan(job("a"), machine("m"), machine("n", "other"), backends=["other"])
    assert rungs(made) == [("a", "n")]
    assert only_rejection(made, Code.BACKEND).reason == "only other was asked for"


class TestJobsWithoutGpu:
    def test_a_gpu_is_not_taken_where_the_cpu_does(self) -> None:
        made = plan(job("a"), gpu_machine("g", usd="2"), machine("c", usd="0.5"))
        assert rungs(made) == [("a", "c")]
        assert only_rejection(made, Code.GPU_UNNEEDED).reason == "asks for no GPU; c gives 16 GB of RAM for $0.50/h"

    def test_a_gpu_machine_will_do_where_there_is_no_other(self) -> None:
        assert rungs(plan(job("a"), gpu_machine("g", backend="one"), backends=["one"])) == [("a", "g")]

    def test_or_where_the_other_has_too_little_ram(self) -> None:
        assert rungs(plan(job(needs(ram="20 GB")), machine("c"), gpu_machine("g", ram=64))) == [("only", "g")]

    def test_or_where_the_other_is_dearer(self) -> None:
        made = plan(job("a"), machine("c", usd="2"), gpu_machine("g", usd="1"))
        assert rungs(made)[0] == ("a", "g")

    def test_or_where_when_asks_for_vram(self) -> None:
        made = plan(job({"name": "a", "when": {"vram": ">=10 GB"}}), machine("c"), gpu_machine("g"))
        assert rungs(made) == [("a", "g")]

    def test_its_vram_is_no_headroom(self) -> None:
        """A bigger GPU does not help a job that ran out of RAM."""
        made = plan(job("a"), gpu_machine("small", usd="1"), gpu_machine("big", A100, usd="2", vram=80))
        assert rungs(made)[0] == ("a", "small")
        assert made.ladder[1].p_reached == pytest.approx(1 - HOLDS)


@pytest.mark.parametrize(
    ("gpu", "name", "same"),
    [
        (A100, "A100", True),
        (A100, "a100 80gb", True),
        ("NVIDIA RTX A1000", "A100", False),
        ("Tesla T4", "T4", True),
        ("NVIDIA T4G", "T4", False),
        ("NVIDIA L40S", "L40", False),
        ("NVIDIA L40", "L4", False),
        ("NVIDIA A10G", "A10", False),
        ("NVIDIA GeForce RTX 4090", "RTX 4090", True),
        ("NVIDIA GeForce RTX 4090", "rtx4090", True),
        ("RTX_4090", "RTX 4090", True),
        ("NVIDIA GeForce RTX 4090", "4090", True),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090", False),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop", True),
        ("NVIDIA GeForce RTX 3080 Ti", "RTX 3080", False),
        ("NVIDIA GeForce RTX 3080 Ti", "3080ti", True),
        ("NVIDIA GeForce RTX 3080 Ti", "rtx3080ti", True),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000", False),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4090", True),
        ("T4", "Tesla T4", True),
        ("NVIDIA T4G", "Tesla T4", False),
        ("NVIDIA H100 80GB HBM3", "H100", True),
        ("NVIDIA H100 80GB HBM3", "H200", False),
        ("", "T4", False),
        ("Tesla T4", "-", False),
    ],
)
def test_gpu_names(gpu: str, name: str, same: bool) -> None:
    assert is_called(gpu, name) is same


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("H1000", "correct 'H1000', which no known GPU is called (did you mean 'H100"),
        ("RTX 4900", "did you mean 'RTX 40"),
        ("TPU v4", "correct 'TPU v4', which no known GPU is called"),
        ("A100", "add a backend that has such a GPU"),
    ],
)
def test_a_gpu_that_nobody_makes_is_said(written: str, said: str) -> None:
    made = plan(job({"name": "a", "needs": {"gpu": written}}), gpu_machine("g"))
    assert said in made.advice


class TestOutOfMemorySeen:
    @pytest.mark.parametrize("this_job", [True, False])
    @pytest.mark.parametrize("outcome", ["oom_host", "killed"])
    def test_no_more_ram_is_ruled_out_everywhere(self, outcome: str, this_job: bool) -> None:
        known = (seen("a", outcome, ram=16, this_job=this_job),)
        offers = [machine("less", ram=8), machine("same", "other"), machine("more", ram=17)]
        made = plan(job("a"), *offers, known=known)
        assert rungs(made) == [("a", "more")]
        reasons = {r.offer: r.reason for r in made.rejected if r.code is Code.OOM_SEEN}
        assert reasons.keys() == {"less", "same"}
        assert "with 16 GB in a" in reasons["less"]
        assert "here it would have 8 GB of RAM" in reasons["less"]

    @pytest.mark.parametrize("this_job", [True, False])
    def test_no_more_vram_is_ruled_out(self, this_job: bool) -> None:
        known = (seen("only", "oom_gpu", "g", vram=16, ram=8, this_job=this_job),)
        made = plan(job(needs(gpu=1)), gpu_machine("g"), gpu_machine("h", A100, vram=80, ram=8), known=known)
        assert rungs(made) == [("only", "h")]
        assert "ran out of VRAM with 16 GB in a" in only_rejection(made, Code.OOM_SEEN).reason

    @pytest.mark.parametrize("vram", [15.3, None])
    def test_a_gpu_of_the_same_model_is_no_larger_though_its_price_list_says_so(self, vram: float | None) -> None:
        known = (seen("only", "oom_gpu", "g", vram=vram, ram=8, gpu="Tesla T4"),)
        offers = [gpu_machine("g"), gpu_machine("more", ram=32), gpu_machine("two", count=2, vram=15.9)]
        assert rungs(plan(job(needs(gpu=1)), *offers, gpu_machine("h", A100, vram=80), known=known)) == [("only", "h")]

    def test_a_gpu_of_the_same_name_with_twice_the_memory_is_another(self) -> None:
        known = (seen("only", "oom_gpu", "g", vram=40, gpu="A100"),)
        made = plan(
            job(needs(gpu=1)), gpu_machine("g", "A100", vram=40), gpu_machine("h", "A100", vram=80), known=known
        )
        assert rungs(made) == [("only", "h")]

    def test_the_largest_that_was_too_small_counts(self) -> None:
        known = (seen("a", "oom_host", ram=32), seen("a", "oom_host", ram=8))
        assert rungs(plan(job("a"), machine("m"), machine("n", ram=33), known=known)) == [("a", "n")]

    def test_other_variants_are_not_judged_by_it(self) -> None:
        assert rungs(plan(job("a", "b"), machine("m"), known=(seen("a", "oom_host", ram=16),))) == [("b", "m")]

    def test_a_slice_of_a_shared_machine_is_what_counts(self) -> None:
        known = (seen("a", "oom_host", ram=0.4),)
        here = machine("m", shared=True)
        small = plan(job({"name": "a", "needs": {"ram": "400 MB"}}), here, known=known)
        assert not small.ladder
        assert "raise needs.ram above 400 MB (it has 16 GB)" in small.advice
        bigger = plan(job({"name": "a", "needs": {"ram": "500 MB"}}), here, known=known)
        assert bigger.ladder[0].ram_capacity_bytes == bigger.ladder[0].ram_cap_bytes == GB // 2

    @pytest.mark.parametrize("outcome", ["oom_host", "oom_gpu"])
    def test_where_nobody_recorded_the_capacity_that_offer_is_out(self, outcome: str) -> None:
        known = (seen("only", outcome, "g"),)
        other = gpu_machine("h", A100, vram=80)
        made = plan(job(needs(gpu=1)), gpu_machine("g", vram=16), other, known=known)
        assert rungs(made) == [("only", "h")]
        assert ("with 16 GB" if outcome == "oom_gpu" else "on this very offer") in only_rejection(
            made, Code.OOM_SEEN
        ).reason

    def test_an_unexplained_kill_counts_only_if_the_spec_says_so(self) -> None:
        known = Knowledge((seen("a", "killed", ram=16),), killed_counts=False)
        spec = job("a", on_oom={"allow": [], "unexplained_sigkill": "fail"})
        assert make_plan(spec, [machine("m")], known, 0, Priority.BALANCED).ladder

    @pytest.mark.parametrize("outcome", ["succeeded", "failed", "preempted", "lost", "deadline"])
    def test_other_endings_rule_out_nothing(self, outcome: str) -> None:
        assert plan(job("a"), machine("cpu"), known=(seen("a", outcome, ram=16),)).ladder


@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        (["smaller_variant", "bigger_machine"], {("a", "big"), ("b", "small"), ("b", "big")}),
        (["smaller_variant"], {("b", "small"), ("b", "big")}),
        (["bigger_machine"], {("a", "big")}),
        ([], set()),
    ],
)
@pytest.mark.parametrize("outcome", ["oom_host", "killed"])
def test_what_on_oom_allows(allow: list[str], expected: set[tuple[str, str]], outcome: str) -> None:
    spec = job("a", "b", on_oom={"allow": allow})
    offers = [machine("small"), machine("big", ram=64, usd="1")]
    before = plan(spec, *offers)
    assert set(rungs(before)) == {("a", "small"), ("a", "big"), ("b", "small"), ("b", "big")}
    after = plan(spec, *offers, known=(seen("a", outcome, "small", ram=16),))
    assert set(rungs(after)) == expected
    for refused in (r for r in after.rejected if r.code is Code.NOT_ALLOWED):
        words = "a bigger machine" if refused.variant == "a" else "another variant"
        assert refused.reason == f"a ran out of memory, and on_oom does not allow {words}"


def test_what_on_oom_allows_is_about_this_job_only() -> None:
    known = (seen("a", "oom_host", ram=16, this_job=False),)
    assert rungs(plan(job("a", "b", on_oom={"allow": []}), machine("m"), known=known)) == [("b", "m")]


def test_an_offer_without_capacity() -> None:
    offers = [machine("m"), machine("n")]
    made = plan(job("a"), *offers, known=(seen("a", "no_capacity", "m"),))
    assert rungs(made) == [("a", "n")]
    assert only_rejection(made, Code.UNAVAILABLE).reason == "it had no capacity in attempt 1"
    earlier = (seen("a", "no_capacity", "m", this_job=False),)
    assert rungs(plan(job("a"), *offers, known=earlier))[0] == ("a", "m")


def test_an_offer_whose_machine_never_became_reachable_gets_one_more_try() -> None:
    offers, gone = [machine("m"), machine("n", usd="1")], seen("a", "unreachable", "m")
    assert rungs(plan(job("a"), *offers, known=(gone,)))[0] == ("a", "m")
    made = plan(job("a"), *offers, known=(gone, gone))
    assert rungs(made) == [("a", "n")]
    assert only_rejection(made, Code.UNAVAILABLE).reason == (
        "2 of its machines never became usable, the last in attempt 1"
    )


def test_a_machine_with_less_memory_than_promised_is_not_tried_again() -> None:
    """A pod of 16 GB whose container got 15: the offer still says 16, which is no reason to try it once more."""
    offers = [machine("small"), machine("big", ram=64, usd="1")]
    made = plan(job("a"), *offers, known=(seen("a", "oom_host", "small", ram=15),))
    assert rungs(made) == [("a", "big")]
    assert "on this very offer" in only_rejection(made, Code.OOM_SEEN).reason


def test_a_backend_that_is_not_set_up_is_said_once() -> None:
    missing = "cloud has no key: gpujob backends setup cloud"
    lacking = [
        replace(machine(name, usd="1", ram=ram), missing=missing) for name, ram in (("a", 8), ("b", 16), ("c", 32))
    ]
    made = plan(job({"name": "only", "needs": {"ram": "2 GB"}}), *lacking, machine("tiny", "here", ram=1))
    rejected = [each for each in made.rejected if each.code is Code.NOT_SET_UP]
    assert len(rejected) == 1
    assert set(rejected[0].offers) == {"a", "b", "c"}
    assert rejected[0].reason == missing
    assert not made.ladder


def test_the_advice_is_what_setting_up_would_give() -> None:
    """Not the first offer that lacks only that: it may be one on which the job would run out of memory."""
    missing = "cloud has no key: gpujob backends setup cloud"
    spec = job({"name": "only", "needs": {"ram": "9 GB"}})
    small, big = (replace(machine(name, usd="1", ram=ram), missing=missing) for name, ram in (("a", 8), ("b", 16)))
    made = plan(spec, small, big)
    assert not made.ladder
    assert made.advice.startswith("Nearest: only on cloud b, a chance of 9")
    assert made.advice.endswith(f"expected, once this is set up: {missing}.")
    assert plan(spec, small).advice.startswith("Nearest: only on cloud a: needs 9 GB of RAM; it has 8 GB.")
