"""The network between us and a pod fails; the run there is not touched."""

from __future__ import annotations

from renter_kit import ON_L4, QUICK, WAITS_FOR_WORD, Renter, outcomes

from tests.emulators.runpod import RunPodEmulator

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
    renter.cwd.joinpath("token").write_text("unused")
    job = renter.rent_detached(renter.job(WAITS_FOR_WORD, *ON_L4))
    renter.until_said(job, 1, "at work")
    pod = renter.pod()
    imposter = cloud.fleet.create(pod.order)
    imposter.changed.wait(0)
    from e2e_kit import eventually

    eventually(lambda: imposter.up, "the imposter")
    pod.ssh.upstream = imposter.ssh.upstream
    pod.ssh.cut()
    detail = renter.ended(job)
    print(detail)
    assert outcomes(detail) == ["failed"]
    del QUICK
