"""VRAM and GPU use, as a stand-in nvidia-smi tells them in the words of the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from runner_kit import Job, eventually

GPUS = "0, GPU-aaa, 5120, 24564, {busy}\n1, GPU-bbb, 300, 24564, 99\n"
MIB = 1 << 20


class Smi:
    """An executable that prints prepared answers; ``apps`` may name the process in a job's ``holder`` file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        tool = folder / "nvidia-smi"
        tool.write_text(
            "#!/bin/sh\n"
            f"cd '{folder}'\n"
            "[ -e hang ] && exec sleep 600\n"
            'case "$1" in --query-gpu=*) cat gpus ;; --query-compute-apps=*) cat apps ;; esac\n'
        )
        tool.chmod(0o755)
        self.says(GPUS.format(busy=37), "")

    def says(self, gpus: str, apps: str) -> None:
        for name, text in (("gpus", gpus), ("apps", apps)):
            (self.folder / "part").write_text(text)
            (self.folder / "part").rename(self.folder / name)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}:{os.environ['PATH']}"}


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    tool = Smi(tmp_path / "smi")
    monkeypatch.setenv("PATH", tool.env["PATH"])
    return tool


def sleeping(job: Job) -> int:
    job.write("echo $$ > pid; exec sleep 600", gpus=[0]).start()
    return int(eventually(lambda: (job.work / "pid").exists() and (job.work / "pid").read_text().strip(), "pid"))


def test_vram_is_counted_by_process(job: Job, smi: Smi) -> None:
    pid = sleeping(job)
    smi.says(GPUS.format(busy=37), f"{pid}, GPU-aaa, 4000\n{os.getpid()}, GPU-aaa, 1000\n")
    record = eventually(lambda: (job.record().get("vram_bytes") or 0) and job.record(), "VRAM")
    assert record["vram_bytes"] == record["peak_vram_bytes"] == 4000 * MIB
    assert record["vram_total_bytes"] == 24564 * MIB
    assert record["gpu_percent"] == 37


def test_in_a_container_what_the_device_gained_is_counted(job: Job, smi: Smi) -> None:
    smi.says("0, GPU-aaa, 120, 24564, [N/A]\n", "")
    sleeping(job)
    eventually(lambda: job.record().get("vram_total_bytes"), "the first reading")
    assert job.record()["gpu_percent"] is None
    smi.says("0, GPU-aaa, 2120, 24564, 5\n", "4194305, GPU-aaa, 2000\n")  # a pid beyond any of ours
    record = eventually(lambda: (job.record().get("vram_bytes") or 0) and job.record(), "VRAM")
    assert record["vram_bytes"] == 2000 * MIB


def test_a_neighbours_vram_is_not_ours(job: Job, smi: Smi) -> None:
    smi.says(GPUS.format(busy=0), f"{os.getpid()}, GPU-aaa, 1000\n")
    sleeping(job)
    record = eventually(lambda: job.record().get("vram_total_bytes") and job.record(), "the first reading")
    assert record["vram_bytes"] == 0


def test_a_busy_gpu_is_not_idle(job: Job, smi: Smi) -> None:
    record = job.run("sleep 6", gpus=[0], limits={"idle": 4})
    assert (record["exit_code"], record["stopped_by"]) == (0, None)


def test_an_idle_gpu_lets_the_run_be_idle(job: Job, smi: Smi) -> None:
    smi.says(GPUS.format(busy=0), "")
    assert job.run("sleep 600", gpus=[0], limits={"idle": 0.6})["stopped_by"] == "idle"


def test_a_hanging_tool_holds_up_nothing(job: Job, smi: Smi) -> None:
    (smi.folder / "hang").touch()
    record = job.run("sleep 0.3", gpus=[0])
    assert (record["exit_code"], record["vram_bytes"]) == (0, None)


@pytest.mark.parametrize("answer", ["", "NVIDIA-SMI has failed\n", "0, GPU-aaa, [N/A], [N/A], [N/A]\n", "0,,,\n\x00"])
def test_odd_answers_end_nothing(job: Job, smi: Smi, answer: str) -> None:
    smi.says(answer, answer)
    assert job.run("sleep 0.4", gpus=[0])["exit_code"] == 0


def test_without_the_tool_nothing_is_known(job: Job) -> None:
    record = job.run("sleep 0.1", gpus=[0, 1])
    assert [record[name] for name in ("vram_bytes", "vram_total_bytes", "gpu_percent")] == [None] * 3


def test_a_job_without_gpus_never_asks(job: Job, smi: Smi) -> None:
    assert job.run("sleep 0.2", gpus=[])["vram_total_bytes"] is None


def test_the_device_and_loading_are_measured_beside_the_job(job: Job, smi: Smi) -> None:
    smi.says(GPUS.format(busy=0), "")
    job.write("mem=$(head -c 30000000 /dev/zero | tr '\\0' x); echo $$ > pid; exec sleep 600", gpus=[0]).start()
    loading = eventually(lambda: (job.record().get("load_ram_bytes") or 0) and job.record(), "RAM while loading")
    assert loading["vram_used_before_bytes"] == loading["peak_device_vram_bytes"] == 5120 * MIB
    smi.says("0, GPU-aaa, 9000, 24564, 60\n", "")
    record = eventually(lambda: job.record().get("gpu_percent") == 60 and job.record(), "a busy GPU")
    assert record["peak_device_vram_bytes"] == 9000 * MIB
    assert record["load_ram_bytes"] <= record["peak_ram_bytes"]


def test_versions_of_the_jobs_environment_are_noted(job: Job, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    for name, version in (("torch", "2.8.0"), ("transformers", "5.23.0")):
        info = environment / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (environment / ".gpujob-complete").touch()
    setup = {"command": None, "environment": str(environment), "python": None, "system_site_packages": False}
    job.write("true", setup=setup).start()
    record = job.ended()
    assert record["versions"] == {"torch": "2.8.0", "transformers": "5.23.0"}
