"""Everything that goes wrong at the provider: each job ends with its results at home, or says why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e_kit import eventually
from renter_kit import L4, ON_L4, ON_L4_OR_L40S, QUICK, RESUMES, SHORT, WAITS_FOR_WORD, Renter, offers, outcomes

from tests.emulators.account_kit import pods_of
from tests.emulators.runpod import RunPodEmulator
from tests.emulators.runpod.placing import Order

Fault = Callable[[RunPodEmulator], None]
Blow = Callable[[RunPodEmulator, str], None]

# --- before there is a pod


def test_no_capacity_takes_the_next_offer_free_of_charge(renter: Renter, cloud: RunPodEmulator) -> None:
    cloud.faults.no_capacity(gpu=L4)
    detail = renter.rent(renter.job(QUICK, *ON_L4_OR_L40S), "--priority", "cost")
    assert outcomes(detail) == ["no_capacity", "succeeded"]
    assert offers(detail) == ["secure L4", "community L40S"]
    assert float(detail["attempts"][0]["cost_usd"]) == 0
    assert len(cloud.created) == 1


def rented_unheard(renter: Renter, cloud: RunPodEmulator) -> None:
    """The reply is lost, and the pod is not listed yet."""
    renter.set(runpod_list_lag="10m")
    cloud.faults.stale_list(3.0)
    cloud.faults.lost_reply()


def nothing_rented(renter: Renter, cloud: RunPodEmulator) -> None:
    """Two answers that tell nothing; then a pod whose image takes its time."""
    renter.set(runpod_list_lag="1s")
    cloud.faults.server_errors(status=500, method="POST", path="/v2/pods")
    cloud.faults.dropped_requests(method="POST", path="/v2/pods")
    cloud.faults.slow_image(3.0)


@pytest.mark.parametrize("trouble", [rented_unheard, nothing_rented])
def test_trouble_at_create_leaves_one_pod(
    renter: Renter, cloud: RunPodEmulator, trouble: Callable[[Renter, RunPodEmulator], None]
) -> None:
    trouble(renter, cloud)
    detail = renter.rent(renter.job(QUICK, *ON_L4))
    assert outcomes(detail) == ["succeeded"]
    assert renter.fetched(detail, 1, "out/key") == f"{detail['id']}-a1\n"
    assert len(renter.pods()) == 1, "a pod that was rented unheard is adopted, no other one rented beside it"
    assert cloud.faults.pending() == 0


def test_a_pod_that_is_listed_after_its_job_is_over_is_terminated_and_paid_for(
    renter: Renter, cloud: RunPodEmulator
) -> None:
    renter.set(runpod_list_lag="30s")
    cloud.faults.stale_list(6.0)
    cloud.faults.lost_reply()
    job = renter.rent_detached(renter.job(WAITS_FOR_WORD, *ON_L4))
    renter.pod()
    renter.run("cancel", job)
    detail = renter.ended(job)
    assert outcomes(detail) == ["cancelled"]
    assert len(renter.pods()) == 1
    assert float(detail["attempts"][0]["cost_usd"]) > 0


@pytest.mark.parametrize(
    ("status", "skew"), [(429, -60.0), (503, 60.0)], ids=["429, a minute behind", "503, a minute ahead"]
)
def test_bursts_of_refusals_are_waited_out_and_clocks_may_differ_a_little(
    renter: Renter, cloud: RunPodEmulator, status: int, skew: float
) -> None:
    cloud.clock.skew = skew

    def burst() -> None:
        cloud.faults.too_many_requests(3) if status == 429 else cloud.faults.server_errors(3, status=status)

    burst()
    job = renter.rent_detached(renter.job(QUICK, *ON_L4))
    renter.pod()
    burst()
    cloud.faults.server_errors(method="DELETE")
    assert outcomes(renter.ended(job)) == ["succeeded"]
    assert len(renter.pods()) == 1
    assert cloud.faults.pending() == 0


def test_foreign_pods_are_never_touched(renter: Renter, cloud: RunPodEmulator) -> None:
    names = ["gpujob-job-1-a1", "gpujob-", "training"]
    marks = [{"GPUJOB_KEY": "job-1-a1", "GPUJOB_OWNER": "another home"}, {}, {"GPUJOB_KEY": "training"}]
    orders = [Order(name=name, image="x", gpu=L4, env=env) for name, env in zip(names, marks, strict=True)]
    foreign = [cloud.fleet.create(order) for order in orders]
    assert outcomes(renter.rent(renter.job(QUICK, *ON_L4))) == ["succeeded"]
    assert "accounted for" in renter.text("reap", "--yes")
    assert cloud.pods() == foreign


# --- pods that never come up


NEVER_UP: dict[str, tuple[str, Fault]] = {
    "RUNNING without a container": ("L4", lambda cloud: cloud.faults.never_ready(gpu="NVIDIA L4")),
    "STARTING for ever": ("A40", lambda cloud: cloud.faults.stuck(gpu="NVIDIA A40")),
    "ERROR": ("RTX A5000", lambda cloud: cloud.faults.error_status(gpu="NVIDIA RTX A5000")),
    "sshd resets every connection": ("RTX A4000", lambda cloud: cloud.faults.deaf_ssh(gpu="NVIDIA RTX A4000")),
    "another GPU": ("GeForce RTX 4090", lambda cloud: cloud.faults.wrong_gpu(gpu="NVIDIA GeForce RTX 4090")),
}


def test_pods_that_never_come_up_are_given_back_charged_as_waste_and_avoided(
    renter: Renter, cloud: RunPodEmulator
) -> None:
    """All kinds at once, since each has to be waited for."""
    renter.set(attempt_start_deadline="30s")
    jobs = {}
    for trouble, (gpu, fault) in NEVER_UP.items():
        fault(cloud)
        needs = f"needs: {{gpu: {{names: [{gpu}, H100], vram: 12 GB}}}}"
        name = gpu.lower().replace(" ", "-")
        jobs[trouble] = renter.rent_detached(renter.job(QUICK, needs, *SHORT, name=name), "--priority", "cost")
    for trouble, job in jobs.items():
        detail = renter.ended(job)
        paid = [each for each in detail["attempts"] if each["outcome"] != "no_capacity"]
        assert [each["outcome"] for each in paid] == ["unreachable", "succeeded"], trouble
        wasted, used = paid
        places = [pods_of(cloud, renter.home, each["key"])[0].place for each in (wasted, used)]
        assert places[0].gpu
        assert places[0].gpu.id == f"NVIDIA {NEVER_UP[trouble][0]}"
        assert len({(place.gpu, place.data_center) for place in places}) == 2, "not that GPU in that place again"
        assert float(wasted["cost_usd"]) > 0
        assert "waste" in {charge["kind"] for charge in wasted["charges"]}, wasted["charges"]


# --- pods that end or change under a run


def exits_by_itself(cloud: RunPodEmulator, pod: str) -> None:
    cloud.exit_pod(pod)


def restarts_without_gpus(cloud: RunPodEmulator, pod: str) -> None:
    cloud.faults.zero_gpus()
    cloud.fleet.act(cloud.pod(pod), "stop")
    cloud.fleet.act(cloud.pod(pod), "start")
    eventually(lambda: cloud.faults.pending() == 0, "the start")


def is_terminated_by_hand(cloud: RunPodEmulator, pod: str) -> None:
    cloud.fleet.act(cloud.pod(pod), "terminate")


BLOWS: dict[str, Blow] = {"no-gpus": restarts_without_gpus, "exits": exits_by_itself, "gone": is_terminated_by_hand}


def test_pods_that_are_lost_in_the_middle_are_given_back_and_the_next_ones_go_on(
    renter: Renter, cloud: RunPodEmulator
) -> None:
    """All blows at once, since each has to be waited for."""
    renter.set(attempt_keep_every="1s")
    spec = (RESUMES, *ON_L4, "checkpoints: [ck/]")
    jobs = {name: renter.rent_detached(renter.job(*spec, name=name)) for name in BLOWS}
    for job in jobs.values():
        renter.until_kept(job, 1, "ck/at")
    for name, job in jobs.items():
        BLOWS[name](cloud, pods_of(cloud, renter.home, f"{job}-a1")[0].id)
    for name, job in jobs.items():
        detail = renter.ended(job)
        assert outcomes(detail) == ["lost", "succeeded"], name
        assert renter.fetched(detail, 2, "out/resumed") == "step-7\n", name


def test_a_preempted_spot_pod_goes_on_from_its_checkpoint_on_the_next_rung(
    renter: Renter, cloud: RunPodEmulator
) -> None:
    renter.set(attempt_keep_every="1s", runpod_spot="yes")
    spec = renter.job(RESUMES, "needs: {gpu: L40S}", *SHORT, "checkpoints: [ck/]")
    job = renter.rent_detached(spec, "--priority", "cost")
    renter.until_kept(job, 1, "ck/at")
    cloud.preempt(renter.pod().id)
    detail = renter.ended(job)
    assert outcomes(detail) == ["preempted", "succeeded"]
    assert detail["attempts"][0]["offer"].startswith("spot ")
    assert renter.fetched(detail, 2, "out/resumed") == "step-7\n"


def test_the_port_changes_in_the_middle(renter: Renter, cloud: RunPodEmulator) -> None:
    job = renter.rent_detached(renter.job(WAITS_FOR_WORD, *ON_L4))
    renter.until_said(job, 1, "at work")
    cloud.change_port(renter.pod().id)
    renter.say_word(renter.pod())
    detail = renter.ended(job)
    assert outcomes(detail) == ["succeeded"]
    assert renter.fetched(detail, 1, "out/runs") == f"{job}-a1\n", "the run was not touched"


def test_a_full_disk_ends_the_job_with_a_clear_word(renter: Renter, cloud: RunPodEmulator) -> None:
    cloud.faults.disk_full(size=24 << 20)
    fills = "mkdir -p out; echo some > out/part; head -c 60000000 /dev/zero > big"
    detail = renter.rent(renter.job(fills, *ON_L4), code=1)
    assert outcomes(detail) == ["disk_full"]
    assert renter.fetched(detail, 1, "out/part") == "some\n"


def test_clocks_that_differ_much_are_said_before_anything_is_rented(renter: Renter, cloud: RunPodEmulator) -> None:
    cloud.clock.skew = 3600.0
    detail = renter.rent(renter.job(QUICK, *ON_L4), code=1)
    assert "behind RunPod's" in detail["summary"]
    cloud.clock.skew = -3600.0
    renter.run("resume", detail["id"], code=1)
    assert "ahead of RunPod's" in renter.show(detail["id"])["summary"]
    cloud.clock.skew = 0.0
    renter.run("resume", detail["id"])
    assert outcomes(renter.show(detail["id"])) == ["failed", "failed", "succeeded"]
    assert len(renter.pods()) == 1
