"""How long attempts take: where the time comes from, how it is carried to other GPUs, and its spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_kit import gpu_machine, job, machine, seen

from backends.base import Offer
from orchestrator.planning.duration import SIGMA_DECLARED, SIGMA_SEEN, Course, Time, Workload, course, together
from orchestrator.planning.knowledge import Knowledge, Seen
from orchestrator.spec.model import JobSpec

HOUR = {"on": "cpu", "minutes": 60}
GPU = {"name": "a", "needs": {"gpu": 1}}
A100 = gpu_machine("a100", "NVIDIA A100-SXM4-80GB", vram=80)


def course_of(spec: JobSpec, offer: Offer, *known: Seen, workload: Workload | None = None) -> Course:
    return course(spec, spec.resolved("a"), offer, Knowledge(known), workload or Workload())


NOTHING = "nothing says how long it takes"


class TestRun:
    def test_nothing_known(self) -> None:
        found = course_of(job("a"), machine("m"))
        assert (found.run.median, found.basis) == (1800, f"{NOTHING}: assumed 30 min in the median, 41 min on average")

    def test_declared(self) -> None:
        found = course_of(job("a", duration={"on": "T4", "minutes": 90}), machine("m"))
        assert (found.run, found.basis) == (Time(5400, SIGMA_DECLARED), "the spec expects 1 h 30 min on T4")

    @pytest.mark.parametrize(
        ("bound", "minutes"), [("compute", 60 * 65 / 312), ("memory", 60 * 320 / 2039), ("host", 60.0)]
    )
    def test_declared_for_another_gpu(self, bound: str, minutes: float) -> None:
        spec = job(GPU, duration={"on": "T4", "minutes": 60})
        found = course_of(spec, A100, workload=Workload(bound=bound))  # type: ignore[arg-type]  # parametrized
        assert found.run.median == pytest.approx(60 * minutes)

    def test_without_a_bound_the_speeds_are_averaged(self) -> None:
        found = course_of(job(GPU, duration={"on": "T4", "minutes": 60}), A100)
        assert found.run.median == pytest.approx(3600 * ((65 / 312) * (320 / 2039)) ** 0.5)
        assert found.basis == "the spec expects 1 h 00 min on T4, so 10 min 51 s on NVIDIA A100-SXM4-80GB"

    def test_an_unknown_gpu_is_taken_as_stated(self) -> None:
        found = course_of(job(GPU, duration={"on": "T4", "minutes": 60}), gpu_machine("x", "Quadro of old"))
        assert found.run.median == 3600

    def test_computed_from_flop(self) -> None:
        found = course_of(job(GPU, duration=HOUR), gpu_machine("m"), workload=Workload(flops=65e12 * 0.35 * 100))
        assert found.run.median == pytest.approx(100)

    def test_measured_replaces_declared_and_computed(self) -> None:
        known = tuple(seen("a", "succeeded", "m", run_seconds=s, this_job=False) for s in (10.0, 30.0, 90.0))
        found = course_of(job(GPU, duration=HOUR), gpu_machine("m"), *known, workload=Workload(flops=1e18))
        assert (found.run.median, found.basis) == (30, "took 30 s here before")
        assert found.run.sigma > SIGMA_SEEN

    def test_measured_on_another_gpu_is_scaled(self) -> None:
        known = seen("a", "succeeded", "other", gpu="Tesla T4", run_seconds=312.0, this_job=False)
        found = course_of(job(GPU, duration=HOUR), A100, known, workload=Workload(bound="compute"))
        assert found.run.median == pytest.approx(65)
        assert found.basis == "1 min 05 s, scaled from runs on Tesla T4"

    def test_measured_elsewhere_replaces_the_guess_only(self) -> None:
        known = seen("a", "succeeded", "other", run_seconds=10.0, this_job=False)
        assert course_of(job("a"), machine("m"), known).basis == "took 10 s elsewhere before"
        assert course_of(job("a", duration=HOUR), machine("m"), known).run.median == 3600

    def test_failures_teach_no_duration(self) -> None:
        known = seen("a", "oom_host", "m", run_seconds=1.0, ram=1, this_job=False)
        assert course_of(job("a"), machine("m"), known).run.median == 1800

    def test_never_longer_than_the_limit(self) -> None:
        found = course_of(job("a", duration=HOUR, limits={"runtime": "10m"}), machine("m"))
        assert found.run == Time(600)
        assert found.basis == "the spec expects 1 h 00 min on cpu, but limits.runtime ends it after 10 min"


class TestSetup:
    def test_it_is_named_where_the_whole_is_not_understood_without_it(self) -> None:
        short, long = (job("a", setup="pip install x", duration={"on": "cpu", "minutes": each}) for each in (1, 600))
        here = machine("m", "local")
        assert course_of(short, here).around == ", and 1 min 40 s to get ready"
        assert course_of(long, here).around == ""

    def test_what_must_be_brought_takes_time(self) -> None:
        plain = course_of(job("a"), machine("m")).setup
        heavy = course_of(job("a"), machine("m"), workload=Workload(download_bytes=10 * 10**9)).setup
        assert heavy.mean - plain.mean == pytest.approx(100, rel=0.2)
        assert course_of(job("a", setup="pip install x"), machine("m")).setup.mean > plain.mean + 60

    def test_this_machine_keeps_what_it_has(self) -> None:
        here = machine("cpu", "local")
        spec = job("a", setup="pip install x")
        known = seen("a", "succeeded", "cpu", "local", run_seconds=5.0, this_job=False)
        assert course_of(spec, here, known).setup.mean < 1 < 60 < course_of(spec, here).setup.mean


times = st.builds(Time, st.floats(0.1, 1e5), st.floats(0.0, 1.0))


@given(st.lists(times, min_size=1, max_size=4))
def test_a_sum_has_the_mean_of_its_parts(parts: list[Time]) -> None:
    total = together(parts)
    assert total.mean == pytest.approx(sum(part.mean for part in parts))
    assert total.sigma <= max(part.sigma for part in parts) + 1e-9
