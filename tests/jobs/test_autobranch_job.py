"""The autobranch job as a program: the command of its spec, against a stand-in for Ollama and its faults."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends.base import RunPhase
from orchestrator.lifecycle.outcome import ExitFacts, Outcome, classify
from orchestrator.spec.load import load_spec
from orchestrator.spec.model import Smoke

JOB = Path(__file__).parents[2] / "jobs" / "autobranch"
SPEC = load_spec(JOB / "creative.yaml")
sys.path.insert(0, str(JOB))
from pruning import cosine, prune  # noqa: E402

FIVE = {"candidates": 5, "keep": 3, "seed": 1}


@dataclass
class Bench:
    """A folder in which the job runs, and a stand-in ``ollama`` on its PATH."""

    folder: Path
    faults: dict[str, Any]

    @property
    def standin(self) -> Path:
        return self.folder / "standin"

    def run(self, code: int = 0, variant: str = "cpu", **params: Any) -> subprocess.CompletedProcess[str]:
        """The spec's own command with its smoke settings and ``params`` over them."""
        assert SPEC.smoke
        cache = {"cache": str(self.folder / "cache")}
        chosen = SPEC.resolved(variant, Smoke(params={**SPEC.smoke.params, **cache, **params}))
        self.standin.mkdir(exist_ok=True)
        (self.standin / "faults.json").write_text(json.dumps(self.faults))
        program = self.standin / "ollama"
        code_of = (Path(__file__).parent / "ollama_standin.py").read_text()
        program.write_text(f"#!{sys.executable}\n{code_of}")
        program.chmod(0o755)
        shutil.copytree(JOB, self.folder / "work", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        env = {
            **os.environ, "PATH": f"{self.standin}:{os.environ['PATH']}", "OLLAMA_STANDIN": str(self.standin),
            "GPUJOB_METRICS": str(self.folder / "told.json"), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        command = ["/bin/sh", "-c", f"set -e\n{chosen.setup}\n{chosen.run}"]
        done = subprocess.run(
            command, cwd=self.folder / "work", env=env, capture_output=True, text=True, timeout=150
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def result(self, name: str) -> Any:
        return json.loads((self.folder / "work" / "results" / f"{name}.json").read_text())

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.standin / f"{name}.jsonl").read_text().splitlines()]

    def calls(self, path: str) -> list[dict[str, Any]]:
        return [call for call in self.lines("calls") if call["path"] == path]


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    def make(name: str = "bench", **faults: Any) -> Bench:
        (tmp_path / name).mkdir()
        return Bench(tmp_path / name, faults)

    return make


def at(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


def test_the_spec_has_the_numbers_of_its_document() -> None:
    """Document 004: 4.9 GB of weights and 8 GB of RAM, 9.3 and 16; four scenarios on a T4 take 5 to 10 minutes."""
    needs = {each.name: SPEC.resolved(each.name).need for each in SPEC.variants}
    models = {each.name: SPEC.resolved(each.name).params["model"] for each in SPEC.variants}
    for name, model, weights, ram in (("best", "qwen3:14b", 9.3, 16), ("t4", "llama3.1:8b", 4.9, 8)):
        gpu = needs[name].gpu
        assert gpu
        assert gpu.vram_bytes
        assert (models[name], needs[name].ram_bytes) == (model, ram * 10**9)
        assert gpu.vram_bytes > weights * 10**9
    assert (models["cpu"], needs["cpu"].gpu, needs["cpu"].ram_bytes) == ("llama3.1:8b", None, 8 * 10**9)
    assert SPEC.duration
    assert SPEC.duration.on == "T4"
    assert 5 <= SPEC.duration.minutes <= 10


# pruning, by hand


def test_cosine_by_hand() -> None:
    assert cosine([3, 4], [4, 3]) == pytest.approx(24 / 25)
    assert cosine([1, 2, 2], [-1, -2, -2]) == pytest.approx(-1)
    assert cosine([1, 0], [0, 7]) == 0
    with pytest.raises(ValueError, match="zero or not finite"):
        cosine([0, 0], [1, 0])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        cosine([1, 0], [1, 0, 0])


def test_pruning_by_hand() -> None:
    """Angles 0, 10, 90, 40, 170: farthest from 0 is 170; then 90; then 40 (50 from 90, 40 from 0); then 10."""
    vectors = [at(angle) for angle in (0, 10, 90, 40, 170)]
    assert prune(vectors, 3, 0.999).kept == [0, 4, 2]
    assert prune(vectors, 5, 0.999).kept == [0, 4, 2, 3, 1]
    assert prune(vectors, 5, 0.9).kept == [0, 4, 2, 3]  # cos 10 = 0.985: too like
    assert prune(vectors, 5, 0.7).kept == [0, 4, 2]  # cos 40 = 0.766
    nearest = prune(vectors, 3, 0.999).nearest
    by_hand = [
        0,
        math.cos(math.radians(10)),
        math.cos(math.radians(80)),
        math.cos(math.radians(40)),
        -math.cos(math.radians(10)),
    ]
    assert nearest == pytest.approx(by_hand)


def test_equals_are_kept_once_and_nothing_gives_nothing() -> None:
    assert prune([[1, 0]] * 4, 3, 1.0).kept == [0]
    assert prune([], 3, 0.9).kept == []
    assert prune([[1, 0], [0, 1]], 7, 0.9).kept == [0, 1]


# the job


def test_branches_are_those_that_differ(bench: Callable[..., Bench]) -> None:
    vectors = {str(1 + index): at(angle) for index, angle in enumerate((0, 10, 90, 40, 170))}
    here = bench(vectors=vectors)
    here.run(**FIVE, scenarios=2, similarity=0.999)
    found = here.result("branches")
    assert [each["scenario"] for each in found] == ["ai-memory", "lighthouse"]
    for each in found:
        assert [branch["candidate"] for branch in each["branches"]] == [0, 4, 2]
        assert [branch["seed"] for branch in each["branches"]] == [1, 5, 3]
        assert {branch["candidate"]: branch["similarity"] for branch in each["pruned"]} == {1: 0.984808, 3: 0.766044}
        assert each["branches"][0]["text"] in (here.folder / "work" / "results" / "branches.md").read_text()
    assert here.result("metrics")["branches"] == {"ai-memory": 3, "lighthouse": 3}


def test_what_was_asked_of_ollama(bench: Callable[..., Bench]) -> None:
    here = bench()
    here.run(**FIVE, tokens=77, temperature=0.5, context=2048)
    (start,) = here.lines("starts")
    assert start["OLLAMA_CONTEXT_LENGTH"] == "2048"
    assert start["OLLAMA_MODELS"] == str(here.folder / "cache" / "models")
    asked = [call for call in here.calls("/api/generate") if call.get("prompt")]
    assert [call["options"]["seed"] for call in asked] == [1, 2, 3, 4, 5]
    assert {(call["options"]["num_predict"], call["options"]["temperature"]) for call in asked} == {(77, 0.5)}
    assert [call["model"] for call in here.calls("/api/pull")] == ["smollm2:135m", "all-minilm"]


def test_models_are_fetched_once_for_all_runs(bench: Callable[..., Bench]) -> None:
    here = bench()
    here.run()
    shutil.rmtree(here.folder / "work")
    here.run()
    assert len(here.calls("/api/pull")) == 2


def test_the_seed_decides(bench: Callable[..., Bench]) -> None:
    one, two, other = bench("one"), bench("two"), bench("other")
    one.run(**FIVE)
    two.run(**FIVE)
    other.run(**{**FIVE, "seed": 9})
    assert one.result("branches") == two.result("branches")
    assert one.result("branches") != other.result("branches")


def test_a_cold_load_is_told_apart_from_writing(bench: Callable[..., Bench]) -> None:
    here = bench(load_seconds=3)
    here.run(**FIVE)
    metrics = here.result("metrics")
    assert metrics["load_seconds"] >= 3
    assert metrics["generations"] == 5
    seconds = metrics["seconds_per_generation"]
    assert 0 < seconds["median"] <= seconds["max"]
    assert json.loads((here.folder / "told.json").read_text()) == {"step_seconds": seconds["median"]}


def test_a_full_queue_is_waited_for(bench: Callable[..., Bench]) -> None:
    here = bench(busy=2)
    assert "queue is full" in here.run(**FIVE).stdout
    assert here.result("metrics")["generations"] == 5
    assert len(here.lines("starts")) == 1


@pytest.mark.parametrize("fault", ["crash_at", "runner_dies_at"])
def test_a_server_that_dies_is_started_again_and_nothing_is_lost(bench: Callable[..., Bench], fault: str) -> None:
    whole, broken = bench("whole"), bench("broken", **{fault: [2, 4]})
    whole.run(**FIVE)
    said = broken.run(**FIVE).stdout
    assert "started again (2 of 3)" in said
    assert broken.result("metrics")["restarts"] == 2
    assert len(broken.lines("starts")) == 3
    assert broken.result("branches") == whole.result("branches")


def test_one_that_always_dies_is_given_up_with_its_last_words(bench: Callable[..., Bench]) -> None:
    here = bench(crash_at=list(range(2, 20)))
    said = here.run(code=1, **FIVE).stderr
    assert "Ollama died 4 times" in said
    assert "Listening" in said
    assert not (here.folder / "work" / "results" / "metrics.json").exists()


def test_a_run_goes_on_where_it_was_killed_to_the_same_result(bench: Callable[..., Bench]) -> None:
    whole, broken = bench("whole"), bench("broken", crash_at=list(range(3, 20)))
    whole.run(**FIVE)
    broken.run(code=1, **FIVE)
    kept = broken.folder / "work" / "checkpoints" / "openings.jsonl"
    kept.write_text(kept.read_text()[:-20])  # and the second was cut short as it was written
    broken.faults = {}
    broken.run(**FIVE)
    assert broken.result("branches") == whole.result("branches")
    metrics = broken.result("metrics")
    assert (metrics["resumed"], metrics["generations"]) == (1, 4)


def test_a_model_on_the_cpu_is_refused_unless_asked_for(bench: Callable[..., Bench]) -> None:
    here = bench(vram_share=0)
    said = here.run(code=1, variant="t4", processor="gpu").stderr
    assert "runs on the CPU" in said
    assert "--processor any" in said
    assert not [call for call in here.calls("/api/generate") if call.get("prompt")]  # nothing was written slowly
    here.run(variant="t4", processor="any")
    assert here.result("metrics")["processor"] == "cpu"


def test_a_model_that_fits_in_part_counts_as_out_of_memory(bench: Callable[..., Bench]) -> None:
    """So that gpujob climbs on: to a smaller model, or a bigger GPU."""
    said = bench(vram_share=0.6).run(code=1, variant="t4", processor="gpu").stderr
    assert "only 3.0 of 5.0 GB fit into VRAM" in said
    verdict = classify(ExitFacts.from_record({"exit_code": 1}, phase=RunPhase.ENDED, stderr_tail=said))
    assert verdict.outcome is Outcome.OOM_GPU


def test_all_of_it_on_the_gpu_is_well(bench: Callable[..., Bench]) -> None:
    here = bench(vram_share=1)
    here.run(variant="t4", processor="gpu")
    metrics = here.result("metrics")
    assert (metrics["processor"], metrics["size_vram_bytes"]) == ("gpu", metrics["size_bytes"])


@pytest.mark.parametrize(
    ("faults", "params", "words"),
    [
        ({"dead_starts": 9}, {}, "no space left on device"),
        ({}, {"model": "no-such-model"}, "file does not exist"),
        ({"mute_at": [1]}, {}, "wrote nothing with seed 1"),
        ({"vectors": {"1": [0, 0]}}, {}, "zero or not finite"),
    ],
    ids=["no server", "no model", "no text", "no direction"],
)
def test_what_cannot_be_is_told(bench: Callable[..., Bench], faults: dict[str, Any], params: Any, words: str) -> None:
    here = bench(**faults)
    assert words in here.run(code=1, **params).stderr
    assert not (here.folder / "work" / "results" / "metrics.json").exists()


@pytest.mark.parametrize("wrong", ["--candidates 0", "--similarity 1.5", "--scenarios 9", "--processor tpu"])
def test_wrong_arguments_are_refused(tmp_path: Path, wrong: str) -> None:
    command = [sys.executable, "-B", str(JOB / "autobranch.py"), *wrong.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert wrong.split()[0] in done.stderr


def test_without_ollama_it_says_how_to_have_it(tmp_path: Path) -> None:
    command = [sys.executable, "-B", str(JOB / "autobranch.py"), "--cache", str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "install_ollama.sh" in done.stderr
