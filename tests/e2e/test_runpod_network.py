"""The network between us and a pod fails; the run there is not touched."""

from __future__ import annotations

from e2e_kit import eventually
from renter_kit import L4, ON_L4, WAITS_FOR_WORD, Renter, outcomes

from tests.emulators.runpod import RunPodEmulator
from tests.emulators.runpod.placing import Order

CUT_SECONDS = 8.0
"""A cut of minutes in small: every open connection is reset, every new one refused, through several tries to return."""


def test_ssh_is_cut_for_a_while_and_the_run_goes_on(renter: Renter, cloud: RunPodEmulator) -> None:
    job = renter.rent_detached(renter.job(WAITS_FOR_WORD, *ON_L4))
    renter.until_said(job, 1, "at work")
    pod = renter.pod()
    pod.ssh.refuse(CUT_SECONDS)
    pod.ssh.cut()
    renter.say_word(pod)
    detail = renter.ended(job)
    assert outcomes(detail) == ["succeeded"]
    assert renter.fetched(detail, 1, "out/runs") == f"{job}-a1\n", "the command ran once"
    assert "does not answer" in renter.notes(detail)
    assert "answers again" in renter.notes(detail)


def test_another_machine_in_the_pods_place_is_refused_and_told_nothing(renter: Renter, cloud: RunPodEmulator) -> None:
    """Somebody else's sshd answers on the pod's port: its host key is not the one that was pinned."""
    job = renter.rent_detached(renter.job(WAITS_FOR_WORD, *ON_L4))
    renter.until_said(job, 1, "at work")
    key = {"PUBLIC_KEY": renter.pod().order.env["PUBLIC_KEY"]}
    order = Order(name="imposter", image="x", gpu=L4, ports=["22/tcp"], env=key)
    pod, imposter = renter.pod(), cloud.fleet.create(order)
    eventually(lambda: imposter.up, "the imposter")
    pod.ssh.upstream = imposter.ssh.upstream
    pod.ssh.cut()
    detail = renter.ended(job)
    assert outcomes(detail) == ["failed"]
    assert "the host key" in detail["summary"]
    assert "Nothing was sent to it" in detail["summary"]
    assert cloud.pods() == [imposter]
