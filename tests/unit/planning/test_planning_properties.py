"""What holds for every plan, whatever the offers, the spec, the history and the budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from planning_kit import job

from backends.base import BY_THE_SECOND, Billing, Offer
from backends.units import parse_usd
from orchestrator.planning.knowledge import Knowledge, Seen
from orchestrator.planning.ladder import make_plan
from orchestrator.planning.plan import Priority, Rung
from orchestrator.planning.reservation import OVERHEAD_SECONDS
from orchestrator.spec.model import JobSpec

MB, GB = 10**6, 10**9
VARIANTS = ("a", "b", "c")
BACKENDS = ("local", "one", "two")
OUTCOMES = ("succeeded", "oom_host", "oom_gpu", "killed", "no_capacity", "unreachable", "lost", "failed")
GPUS = {"Tesla T4": 7.5, "NVIDIA L4": 8.9, "NVIDIA A100-SXM4-80GB": 8.0, "Quadro of old": None}

sizes = st.integers(1, 128).map(lambda count: count * GB // 2)
billings = st.just(BY_THE_SECOND) | st.builds(
    Billing,
    increment_seconds=st.sampled_from([1, 60, 3600]),
    minimum_seconds=st.sampled_from([0, 600]),
    disk_micros_per_gb_month=st.sampled_from([0, 100_000]),
    egress_micros_per_gb=st.sampled_from([0, 90_000]),
    free_seconds=st.sampled_from([0, 7200]),
    quota_ends=st.booleans(),
    subscription_micros=st.sampled_from([0, 10_000_000]),
    subscribed=st.booleans(),
    uses=st.sampled_from([1, 20]),
    interruptions_per_hour=st.sampled_from([0.0, 0.3]),
    wait_seconds=st.sampled_from([0.0, 1800.0]),
)
moneys = st.one_of(st.just(0), st.integers(1, 50), st.integers(1, 20_000_000))
budgets = st.one_of(st.just(0), st.integers(1, 1000), st.integers(1, 100_000_000))


@st.composite
def offers(draw: st.DrawFn) -> list[Offer]:
    names = draw(st.lists(st.tuples(st.sampled_from(BACKENDS), st.sampled_from("mnopq")), unique=True, max_size=7))
    return [_offer(draw, backend, name) for backend, name in names]


def _offer(draw: st.DrawFn, backend: str, name: str) -> Offer:
    gpu = draw(st.sampled_from([None, *GPUS]))
    return Offer(
        backend, name, draw(sizes), draw(sizes), 4, draw(moneys), shared=draw(st.booleans()),
        gpu=gpu, gpu_count=draw(st.integers(1, 3)) if gpu else 0, vram_bytes=draw(sizes) if gpu else 0,
        compute_capability=GPUS[gpu] if gpu else None, billing=draw(billings),
    )  # fmt: skip


def text_of(size: int) -> str:
    return f"{size // MB} MB"


gpu_needs = st.one_of(
    st.just("none"),
    st.integers(1, 2),
    st.sampled_from(["T4", "L4"]),
    st.fixed_dictionaries({"vram": sizes.map(text_of)}, optional={"compute_capability": st.just(8.0)}),
)
needs = st.fixed_dictionaries({}, optional={"gpu": gpu_needs, "ram": sizes.map(text_of), "disk": sizes.map(text_of)})
bounds = st.fixed_dictionaries({}, optional={"vram": sizes.map(lambda size: f">={text_of(size)}")})
variants = st.fixed_dictionaries({"needs": needs, "when": bounds, "quality": st.sampled_from([1.0, 0.9, 0.5])})
minutes = st.floats(0.01, 3000, allow_nan=False)


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    fields: dict[str, Any] = {
        "limits": {"attempts": draw(st.integers(1, 5)), "runtime": draw(st.sampled_from(["1m", "1h", "24h"]))},
        "on_oom": {"allow": draw(st.lists(st.sampled_from(["smaller_variant", "bigger_machine"]), unique=True))},
    }
    if draw(st.booleans()):
        fields["duration"] = {"on": "cpu", "minutes": draw(minutes)}
    count = draw(st.integers(1, 3))
    return job(*({"name": name, **draw(variants)} for name in VARIANTS[:count]), **fields)


seen = st.builds(
    Seen,
    variant=st.sampled_from(VARIANTS),
    backend=st.sampled_from(BACKENDS),
    offer=st.sampled_from("mnopq"),
    outcome=st.sampled_from(OUTCOMES),
    ram_capacity_bytes=st.none() | sizes,
    vram_capacity_bytes=st.none() | sizes,
    peak_ram_bytes=st.none() | sizes,
    peak_vram_bytes=st.none() | sizes,
    run_seconds=st.none() | st.floats(0, 1e5),
    this_job=st.booleans(),
)
histories = st.lists(seen, max_size=4).map(lambda all_seen: Knowledge(tuple(all_seen)))
priorities = st.sampled_from(Priority)
worlds = {"spec": specs(), "all_offers": offers(), "known": histories, "budget": budgets, "priority": priorities}
steady = settings(max_examples=150)


@steady
@given(**worlds)
def test_the_worst_case_is_paid_for(
    spec: JobSpec, all_offers: list[Offer], known: Knowledge, budget: int, priority: Priority
) -> None:
    plan = make_plan(spec, all_offers, known, budget, priority)
    assert sum(rung.worst_case_micros for rung in plan.ladder) == plan.worst_case_micros <= budget
    assert 0 <= plan.expected_micros <= plan.worst_case_micros
    assert sum(parse_usd(rung["worst_case_usd"]) for rung in plan.to_json()["ladder"]) == plan.worst_case_micros
    for rung in plan.ladder:
        assert rung.worst_case_micros == rung.price.micros(rung.allowed_seconds)
        assert rung.price.seconds_for(rung.worst_case_micros) >= rung.allowed_seconds
        assert rung.needed_micros <= rung.worst_case_micros
        assert 0 <= rung.expected_micros <= rung.worst_case_micros
        assert rung.expected_seconds <= rung.allowed_seconds
        assert rung.allowed_seconds <= spec.limits.runtime + 2 * OVERHEAD_SECONDS


@steady
@given(ends=st.lists(st.sampled_from(["oom_host", "oom_gpu", "unreachable", "lost"]), min_size=6), **worlds)
def test_even_if_everything_goes_wrong_at_its_dearest_the_budget_is_kept(
    ends: list[str], spec: JobSpec, all_offers: list[Offer], known: Knowledge, budget: int, priority: Priority
) -> None:
    """The first rung is tried, costs all that was reserved for it, and fails; then it is planned anew."""
    spent, by_name = 0, {(offer.backend, offer.name): offer for offer in all_offers}
    for made, outcome in enumerate(ends):
        left = spec.limits.attempts - made
        plan = make_plan(spec, all_offers, known, budget - spent, priority, attempts_left=left)
        if not plan.ladder:
            break
        rung = plan.ladder[0]
        spent += rung.worst_case_micros
        assert spent <= budget
        offer = by_name[rung.backend, rung.offer]
        failed = Seen(
            rung.variant, rung.backend, rung.offer, outcome,
            rung.ram_capacity_bytes, offer.vram_bytes or None, this_job=True,
        )  # fmt: skip
        known = replace(known, seen=(*known.seen, failed))
    else:
        made += 1
    assert made <= spec.limits.attempts


@steady
@given(**worlds)
def test_every_pair_is_answered_once(
    spec: JobSpec, all_offers: list[Offer], known: Knowledge, budget: int, priority: Priority
) -> None:
    plan = make_plan(spec, all_offers, known, budget, priority, first_rank=3)
    answered = Counter((rung.backend, rung.offer, rung.variant) for rung in plan.ladder)
    answered.update((no.backend, offer, no.variant) for no in plan.rejected for offer in no.offers)
    assert answered == {(o.backend, o.name, v.name): 1 for o in all_offers for v in spec.variants}
    assert [rung.rank for rung in plan.ladder] == list(range(3, 3 + len(plan.ladder)))
    assert len(plan.ladder) <= spec.limits.attempts
    assert all(0 <= p <= 1 for p in (plan.p_success, *(rung.p_success for rung in plan.ladder)))
    assert all(rung.reasons for rung in plan.ladder)
    assert all(rejection.reason for rejection in plan.rejected)
    assert bool(plan.advice) is not bool(plan.ladder)


@steady
@given(order=st.randoms(use_true_random=False), **worlds)
def test_the_order_of_offers_does_not_matter(
    order: Any, spec: JobSpec, all_offers: list[Offer], known: Knowledge, budget: int, priority: Priority
) -> None:
    shuffled = list(all_offers)
    order.shuffle(shuffled)
    plan, again = (make_plan(spec, listed, known, budget, priority) for listed in (all_offers, shuffled))
    assert plan == again
    assert plan.to_json() == again.to_json()


@steady
@given(**worlds)
def test_no_rung_is_forbidden(
    spec: JobSpec, all_offers: list[Offer], known: Knowledge, budget: int, priority: Priority
) -> None:
    plan = make_plan(spec, all_offers, known, budget, priority)
    by_name = {(offer.backend, offer.name): offer for offer in all_offers}
    for rung in plan.ladder:
        _meets_the_need(rung, spec, by_name[rung.backend, rung.offer])
        _was_not_shown_to_fail(rung, known)


def _meets_the_need(rung: Rung, spec: JobSpec, offer: Offer) -> None:
    variant = spec.resolved(rung.variant)
    need = variant.need
    assert variant.allows(offer) is None
    assert (need.ram_bytes or 0) <= rung.ram_capacity_bytes <= offer.ram_bytes
    assert (need.disk_bytes or 0) <= offer.disk_bytes
    if need.gpu:
        assert need.gpu.count <= offer.gpu_count
        assert not need.gpu.names or any(name in (offer.gpu or "").split() for name in need.gpu.names)
        assert (need.gpu.vram_bytes or 0) <= offer.vram_bytes
        assert (need.gpu.compute_capability or 0) <= (offer.compute_capability or 0)


def _was_not_shown_to_fail(rung: Rung, known: Knowledge) -> None:
    for past in (each for each in known.seen if each.variant == rung.variant):
        if past.outcome in ("oom_host", "killed"):
            assert rung.ram_capacity_bytes > (past.ram_capacity_bytes or 0)
        if past.outcome == "oom_gpu" and rung.gpu:
            assert rung.vram_capacity_bytes > (past.vram_capacity_bytes or 0)


@steady
@given(more=st.integers(0, 100_000_000), **worlds)
def test_more_money_never_makes_a_plan_impossible(
    more: int, spec: JobSpec, all_offers: list[Offer], known: Knowledge, budget: int, priority: Priority
) -> None:
    if make_plan(spec, all_offers, known, budget, priority).ladder:
        assert make_plan(spec, all_offers, known, budget + more, priority).ladder
