"""This machine as a backend: leases that two calls, two jobs and a crash cannot confuse."""

import json
import os
import platform
from pathlib import Path

import pytest

from backends.base import GpuNeed, LeaseRequest, Need, NoCapacity, Offer, Rejected
from backends.hardware import DRIVER_BYTES
from backends.local import RAM_UNDECLARED, LocalBackend, open_backend

FREE = (16376 << 20) - DRIVER_BYTES
"""What an RTX A4000 has for a job if nobody else uses it."""
NVIDIA_SMI = """#!/bin/sh
case "$1" in
  *query-gpu*) printf '%s\\n' '0, NVIDIA RTX A4000, 16376, 512, 8.6' '1, NVIDIA RTX A4000, 16376, 0, 8.6' \
                              '2, Tesla T4, 15360, 0, 7.5' ;;
esac
"""


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in nvidia-smi that answers as the real one does."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "local", slots=2)


def offer(backend: LocalBackend, name: str, count: int = 1) -> Offer:
    return next(o for o in backend.offers(Need(gpu=GpuNeed(count))) if o.name == name)


def cpu(backend: LocalBackend, key: str, ram: int | None = 10**8) -> LeaseRequest:
    return LeaseRequest(key, offer(backend, "cpu"), ram)


def test_electricity_is_part_of_what_an_hour_costs(tmp_path):
    settings = {"price_per_hour": 50_000, "watts": 350, "price_per_kwh": 300_000}
    assert offer(open_backend(tmp_path, settings), "cpu").micros_per_hour == 155_000


def test_asking_twice_gives_one_lease(backend):
    first, second = (backend.create(cpu(backend, "job-a1")) for _ in range(2))
    assert first == second
    assert [lease.key for lease in backend.owned()] == ["job-a1"]
    assert backend.find("job-a1") == first


def test_deleting_twice_is_harmless_and_the_time_held_stays_known_until_it_is_paid(backend):
    lease = backend.create(cpu(backend, "job-a1"))
    for _ in range(2):
        backend.delete(lease)
    assert (backend.find("job-a1"), list(backend.owned())) == (None, [])
    held = backend.held_seconds(lease)
    assert held is not None
    assert backend.held_seconds(lease) == held
    backend.settled(lease)
    assert backend.held_seconds(lease) is None


def test_cpu_jobs_wait_for_a_place(backend):
    for key in ("a", "b"):
        backend.create(cpu(backend, key))
    with pytest.raises(NoCapacity, match="all 2 places") as busy:
        backend.create(cpu(backend, "c"))
    assert busy.value.busy_for_now


def test_jobs_share_the_ram_and_wait_for_it(backend):
    machine = offer(backend, "cpu").ram_bytes
    backend.create(cpu(backend, "a", machine - RAM_UNDECLARED // 2))
    with pytest.raises(NoCapacity, match="of RAM are held by 1") as busy:
        backend.create(cpu(backend, "b", None))
    assert busy.value.busy_for_now
    with pytest.raises(Rejected, match="this machine can give"):
        backend.create(cpu(backend, "c", machine + 1))


def test_each_gpu_is_an_offer_and_has_one_holder(gpus, backend):
    names = [o.name for o in backend.offers(Need(gpu=GpuNeed()))]
    assert names == ["cpu", "gpu0", "gpu1", "gpu2"]
    first = offer(backend, "gpu0")
    assert (first.gpu, first.vram_bytes, first.compute_capability) == ("NVIDIA RTX A4000", FREE - (512 << 20), 8.6)
    lease = backend.create(LeaseRequest("a", first, 10**8))
    assert lease.details["gpus"] == [0]
    with pytest.raises(NoCapacity, match="GPU 0 is held by a") as busy:
        backend.create(LeaseRequest("b", first, 10**8))
    assert busy.value.busy_for_now
    assert backend.create(LeaseRequest("b", offer(backend, "gpu1"), 10**8)).details["gpus"] == [1]


def test_what_a_job_of_ours_holds_of_a_gpu_will_be_free_again(gpus, backend):
    backend.create(LeaseRequest("a", offer(backend, "gpu0"), 10**8))
    assert offer(backend, "gpu0").vram_bytes == offer(backend, "gpu1").vram_bytes == FREE


def test_what_is_other_than_on_a_rented_gpu_is_told(gpus, backend, monkeypatch):
    assert offer(backend, "gpu0").caveat == "537 MB of its VRAM are in use by the display and other programs"
    assert offer(backend, "gpu1").caveat == offer(backend, "cpu").caveat == ""
    monkeypatch.setattr(platform, "release", lambda: "5.15.153.1-microsoft-standard-WSL2")
    assert "crawls instead of running out of memory" in offer(backend, "gpu1").caveat
    assert offer(backend, "cpu").caveat == ""


def test_several_gpus_of_a_kind_are_leased_together(gpus, backend):
    pair = offer(backend, "2 x NVIDIA RTX A4000", count=2)
    assert (pair.gpu_count, pair.vram_bytes) == (2, FREE - (512 << 20))
    lease = backend.create(LeaseRequest("a", pair, 10**8))
    assert lease.details["gpus"] == [0, 1]
    with pytest.raises(NoCapacity, match="GPU 1 is held by a"):
        backend.create(LeaseRequest("b", offer(backend, "gpu1"), 10**8))
    assert not any(o.gpu_count == 3 for o in backend.offers(Need(gpu=GpuNeed(3))))


def test_a_restart_of_the_machine_is_noticed(backend, tmp_path):
    lease = backend.create(cpu(backend, "a"))
    note = tmp_path / "local" / "leases" / "a.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "boot": "another boot"}))
    assert backend.held_seconds(lease) is None
    assert backend.find("a") is not None
