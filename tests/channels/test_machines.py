"""What every machine can do, however it is reached: transfers that can be repeated, and a runner that can be asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from channels_kit import content, silent

from backends.base import Machine, Rejected, RunPhase, Transient
from backends.channels.local import LocalMachine
from tests.runner.runner_kit import Job, eventually

MakeMachine = Callable[..., Machine]


@pytest.fixture(params=["local", "ssh"])
def make_machine(request: pytest.FixtureRequest, root: Path) -> MakeMachine:
    """Makes machines whose place for jobs is ``root``."""
    if request.param == "ssh":
        return request.getfixturevalue("over_ssh")
    return lambda **given: LocalMachine(root, **given)


@pytest.fixture
def machine(make_machine: MakeMachine) -> Machine:
    return make_machine()


class TestPush:
    def test_everything_arrives(self, machine: Machine, root: Path, tree: Path) -> None:
        steps: list[tuple[int, int]] = []
        machine.push(tree, "job/work", lambda done, total: steps.append((done, total)))
        assert content(root / "job" / "work") == content(tree)
        assert stat.S_IMODE((root / "job" / "work" / "train.sh").stat().st_mode) == 0o755
        assert steps[0] == (0, 3010)
        assert steps[-1] == (3010, 3010)

    def test_again_copies_only_what_differs(self, machine: Machine, root: Path, tree: Path) -> None:
        machine.push(tree, "job/work", silent)
        before = {path: path.stat().st_ino for path in (root / "job").rglob("*") if path.is_file()}
        (tree / "train.sh").write_text("#!/bin/sh\necho changed\n")
        (tree / "link").unlink()
        (tree / "link").symlink_to("empty")
        machine.push(tree, "job/work", silent)
        assert content(root / "job" / "work") == content(tree)
        changed = {path.name for path, inode in before.items() if path.stat().st_ino != inode}
        assert changed == {"train.sh"}

    def test_an_absolute_link_inside_means_the_copy(self, machine: Machine, root: Path, tree: Path) -> None:
        (tree / "data" / "absolute").symlink_to(tree / "train.sh")
        machine.push(tree, "job/work", silent)
        assert (root / "job" / "work" / "data" / "absolute").readlink() == Path("../train.sh")

    @pytest.mark.parametrize("aim", ["/etc/passwd", "../../outside", "data/../../x"])
    def test_a_link_to_the_outside_is_rejected(self, machine: Machine, tree: Path, aim: str) -> None:
        (tree / "bad").symlink_to(aim)
        with pytest.raises(Rejected, match="outside of"):
            machine.push(tree, "job/work", silent)

    def test_a_pipe_is_rejected(self, machine: Machine, tree: Path) -> None:
        os.mkfifo(tree / "fifo")
        with pytest.raises(Rejected, match="neither file, folder nor link"):
            machine.push(tree, "job/work", silent)

    @pytest.mark.parametrize("dest", ["../x", "/tmp/x", "job/../../x"])
    def test_it_stays_below_the_root(self, machine: Machine, tree: Path, dest: str) -> None:
        with pytest.raises(Rejected, match="leads out"):
            machine.push(tree, dest, silent)

    def test_a_link_in_a_circle_is_no_trouble(self, machine: Machine, root: Path, tree: Path) -> None:
        (tree / "data" / "up").symlink_to("..")
        (tree / "self").symlink_to("self")
        machine.push(tree, "job/work", silent)
        assert (root / "job" / "work" / "data" / "up").readlink() == Path("..")

    def test_a_long_name_and_a_big_file(self, machine: Machine, root: Path, tree: Path) -> None:
        (tree / ("n" * 255)).write_bytes(os.urandom(5_000_000))
        machine.push(tree, "job/work", silent)
        assert content(root / "job" / "work") == content(tree)

    def test_a_folder_in_the_place_of_a_file_is_rejected(self, machine: Machine, root: Path, tree: Path) -> None:
        (root / "job" / "work" / "train.sh").mkdir(parents=True)
        with pytest.raises(Rejected) as error:
            machine.push(tree, "job/work", silent)
        assert error.value.advice


class TestPull:
    @pytest.fixture
    def results(self, root: Path) -> Path:
        top = root / "job" / "work" / "results"
        (top / "deep").mkdir(parents=True)
        (root / "job" / "job.json").write_text("{}")
        (top / "metrics.json").write_text("{}")
        (top / "deep" / "new\nline;'--").write_bytes(b"y" * 2_500_000)
        return top

    def test_a_folder(self, machine: Machine, results: Path, tmp_path: Path) -> None:
        steps: list[tuple[int, int]] = []
        home = tmp_path / "home" / "results"
        assert machine.pull("job/work/results", home, lambda done, total: steps.append((done, total)))
        assert content(home) == content(results)
        assert steps[-1] == (2_500_002, 2_500_002)

    def test_a_file(self, machine: Machine, results: Path, tmp_path: Path) -> None:
        assert machine.pull("job/work/results/metrics.json", tmp_path / "home" / "m.json", silent)
        assert (tmp_path / "home" / "m.json").read_text() == "{}"

    def test_what_is_absent(self, machine: Machine, tmp_path: Path) -> None:
        assert machine.pull("job/work/nothing", tmp_path / "home", silent) is False
        assert not (tmp_path / "home").exists()

    def test_links_and_special_files_stay_behind(self, machine: Machine, results: Path, tmp_path: Path) -> None:
        (results / "link").symlink_to("/etc/passwd")
        (results / "inside").symlink_to("metrics.json")
        (results / "folder").symlink_to("/etc")
        os.mkfifo(results / "fifo")
        machine.pull("job/work/results", tmp_path / "home", silent)
        assert set(content(tmp_path / "home")) == {"metrics.json", "deep", "deep/new\nline;'--"}

    def test_modes_are_ours(self, machine: Machine, results: Path, tmp_path: Path) -> None:
        (results / "metrics.json").chmod(0o6777)
        machine.pull("job/work/results", tmp_path / "home", silent)
        assert not (tmp_path / "home" / "metrics.json").stat().st_mode & 0o6111

    @pytest.mark.parametrize("path", ["..", "../x", "/etc/passwd", "job/work/../../../x"])
    def test_paths_out_of_the_root_are_rejected(
        self, machine: Machine, results: Path, tmp_path: Path, path: str
    ) -> None:
        with pytest.raises(Rejected, match="leads out"):
            machine.pull(path, tmp_path / "home", silent)

    @pytest.mark.parametrize("aim", ["/etc", "../../other", ".."])
    def test_results_that_are_a_link_out_of_the_job(
        self, machine: Machine, results: Path, root: Path, tmp_path: Path, aim: str
    ) -> None:
        (root / "other").mkdir()
        (root / "other" / "job.json").write_text("{}")
        (results.parent / "trick").symlink_to(aim if aim != ".." else "../..")
        with pytest.raises(Rejected, match="leads out"):
            machine.pull("job/work/trick", tmp_path / "home", silent)
        with pytest.raises(Rejected, match="leads out"):
            machine.read("job/work/trick", 0)

    def test_results_that_are_a_link_inside_the_job(self, machine: Machine, results: Path, tmp_path: Path) -> None:
        (results.parent / "latest").symlink_to("results")
        assert machine.pull("job/work/latest", tmp_path / "home", silent)
        assert content(tmp_path / "home") == content(results)

    @pytest.mark.parametrize("caps", [{"max_files": 2}, {"max_bytes": 2_500_001}])
    def test_too_much_is_rejected_before_anything_is_copied(
        self, make_machine: MakeMachine, results: Path, tmp_path: Path, caps: dict[str, int]
    ) -> None:
        with pytest.raises(Rejected, match="more than the"):
            make_machine(**caps).pull("job/work/results", tmp_path / "home", silent)
        assert not (tmp_path / "home").exists()

    def test_a_file_of_a_petabyte_that_is_not_there(self, machine: Machine, results: Path, tmp_path: Path) -> None:
        with (results / "bomb").open("wb") as file:
            file.truncate(10**12 + 1)
        with pytest.raises(Rejected, match="more than the"):
            machine.pull("job/work/results", tmp_path / "home", silent)

    def test_complete_files_are_not_fetched_again(self, machine: Machine, results: Path, tmp_path: Path) -> None:
        machine.pull("job/work/results", tmp_path / "home", silent)
        inode = (tmp_path / "home" / "metrics.json").stat().st_ino
        machine.pull("job/work/results", tmp_path / "home", silent)
        assert (tmp_path / "home" / "metrics.json").stat().st_ino == inode


class TestRun:
    def test_a_run_from_end_to_end(self, make_job, root: Path, machine: Machine, tmp_path: Path) -> None:
        job: Job = make_job(root / "j1")
        assert machine.status("j1").phase is RunPhase.ABSENT
        job.write("echo $TOKEN; echo 42 > answer", secret_names=["TOKEN"])
        machine.start("j1", {"TOKEN": "canary-99"})
        machine.start("j1", {"TOKEN": "canary-99"})
        status = eventually(lambda: machine.status("j1").over and machine.status("j1"), "the end")
        assert (status.phase, status.record["exit_code"]) == (RunPhase.ENDED, 0)
        assert machine.read("j1/stdout.log", 0) == b"***\n"
        assert machine.read("j1/stdout.log", 2, 1) == b"*"
        assert machine.read("j1/stdout.log", 100) == b""
        assert machine.read("j1/absent.log", 0) == b""
        assert machine.pull("j1/work/answer", tmp_path / "answer", silent)

    def test_a_folder_is_no_file_to_read(self, root: Path, machine: Machine) -> None:
        (root / "j1" / "stdout.log").mkdir(parents=True)
        with pytest.raises(Transient):
            machine.read("j1/stdout.log", 0)

    def test_a_signal_ends_it_twice(self, make_job, root: Path, machine: Machine) -> None:
        make_job(root / "j1").write("sleep 600").start()
        for _ in range(2):
            machine.signal("j1", "cancelled by the user")
        status = eventually(lambda: machine.status("j1").over and machine.status("j1"), "the end")
        assert status.record["stop_reason"] == "cancelled by the user"
        machine.signal("never-started", "whatever")

    def test_a_refused_job_says_why(self, make_job, root: Path, machine: Machine) -> None:
        make_job(root / "j1").write("true", secret_names=["TOKEN"])
        with pytest.raises(Rejected, match="TOKEN"):
            machine.start("j1", {})

    def test_an_absent_job_says_why(self, machine: Machine) -> None:
        with pytest.raises(Rejected, match="never-written"):
            machine.start("never-written", {})
