"""Memory runs out in a pod: the kernel really kills, the job falls to what is larger or smaller, within the budget."""

from __future__ import annotations

import pytest
from renter_kit import Renter, offers, outcomes

from tests.emulators.runpod import RunPodEmulator, why_no_memory_limit
from tests.emulators.runpod.catalog import CpuFlavor

SMALL_MACHINES = CpuFlavor("cpu3c", "Compute-Optimized", "Gen 3", 32, 0.5, 0.03)
"""1 GB with 2 vCPU, 2 GB with 4: a real kernel can kill at these sizes on a small machine."""

HOG = """
mkdir -p out ck; cat ck/at > out/resumed 2>&1; echo step-7 > ck/at; echo begun > out/begun
exec python3 -S -c 'held = [b"x" * 10_000_000 for _ in range(125)]'
"""

CUDA_OOM = """
mkdir -p out; size=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits); echo $size $HOW > out/seen
if [ $HOW = big ] && [ $size -lt 40000 ]; then
cat >&2 <<'END'
Traceback (most recent call last):
  File "train.py", line 12, in <module>
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 21.96 GiB of \
which 1.12 GiB is free. Process 9 has 20.84 GiB memory in use.
END
exit 1
fi
"""
SHORT = ("limits: {runtime: 1m}", "env: {HOW: '{how}'}", "params: {how: big}")


def test_the_kernel_kills_in_a_pod_and_the_job_falls_to_a_larger_one(renter: Renter, cloud: RunPodEmulator) -> None:
    if reason := why_no_memory_limit():
        pytest.skip(f"NOT TESTED: {reason}")
    cloud.catalog.cpus = [SMALL_MACHINES]
    needs = ("needs: {gpu: none, ram: 500 MB}", "duration: {on: cpu, minutes: 0.2}", "limits: {runtime: 1m}")
    detail = renter.rent(renter.job(HOG, *needs, "checkpoints: [ck/]"), "--priority", "cost")
    assert outcomes(detail) == ["oom_host", "succeeded"]
    assert offers(detail) == ["cpu cpu3c with 2 vCPU", "cpu cpu3c with 4 vCPU"]
    killed, fallen = detail["attempts"]
    assert (killed["signal"], fallen["exit_code"]) == (9, 0)
    assert "the kernel's OOM killer" in killed["evidence"][0]
    assert renter.fetched(detail, 1, "out/begun") == "begun\n", "what the killed run left came home"
    assert renter.fetched(detail, 2, "out/resumed") == "step-7\n", "and its checkpoint went along"


def test_cuda_out_of_memory_falls_to_more_vram(renter: Renter) -> None:
    needs = ("needs: {gpu: {names: [L4, L40S], vram: 16 GB}}", "duration: {on: L4, minutes: 0.2}")
    detail = renter.rent(renter.job(CUDA_OOM, *needs, *SHORT), "--priority", "cost")
    assert outcomes(detail) == ["oom_gpu", "succeeded"]
    assert [attempt["gpu"] for attempt in detail["attempts"]] == ["L4", "L40S"]
    assert renter.fetched(detail, 1, "out/seen") == "23034 big\n"
    assert renter.fetched(detail, 2, "out/seen") == "46068 big\n"


def test_cuda_out_of_memory_falls_to_a_smaller_variant_where_no_gpu_is_larger(renter: Renter) -> None:
    variants = "variants: [{name: big}, {name: small, params: {how: small}, quality: 0.9}]"
    needs = ("needs: {gpu: L4}", "duration: {on: L4, minutes: 0.2}")
    detail = renter.rent(renter.job(CUDA_OOM, *needs, *SHORT, variants))
    assert outcomes(detail) == ["oom_gpu", "succeeded"]
    assert [attempt["variant"] for attempt in detail["attempts"]] == ["big", "small"]
    assert renter.fetched(detail, 2, "out/seen") == "23034 small\n"
