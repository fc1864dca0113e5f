"""The quickstart as its README promises it: killed for memory, understood, fallen back from, succeeded."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import REPOSITORY, Gpujob, user_in

SPEC = REPOSITORY / "jobs" / "quickstart" / "quickstart.yaml"
NO_INDEX = ("Could not find a version", "No matching distribution", "Connection", "Temporary failure", "Network is")


class Demo:
    """What ``make demo`` leaves: the screen, the record, and the home."""

    def __init__(self, user: Gpujob, screen: str) -> None:
        self.user = user
        self.screen = screen
        self.detail: dict[str, Any] = user.show("quickstart")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with user_in(tmp_path_factory.mktemp("demo")) as user:
        done = user.start("submit", str(SPEC), "--budget", "3")
        screen = done.communicate(timeout=170)[0]
        if done.returncode == 1 and any(word in screen for word in NO_INDEX):
            pytest.skip(f"NOT TESTED: pip cannot install the quickstart's requirements here: {screen[-600:]}")
        assert done.returncode == 0, screen
        yield Demo(user, screen)


def test_the_screen_tells_the_story_in_order(demo: Demo) -> None:
    story = (
        "Plan  within $3.00", "exact", "compact", "Attempt 1: exact", "RAM", "of 400 MB", "oom_host", "SIGKILL",
        "Attempt 2: compact", "exact ran out of RAM with 400 MB in attempt 1", "succeeded", "cost: $0.00 of $3.00",
        "results/confusion.png", "results/metrics.json", "gpujob results",
    )  # fmt: skip
    place = 0
    for words in story:
        found = demo.screen.find(words, place)
        assert found >= 0, f"{words!r} is not on the screen after {demo.screen[:place][-80:]!r}:\n{demo.screen}"
        place = found


def test_the_record_holds_the_kill_and_its_evidence(demo: Demo) -> None:
    detail = demo.detail
    assert (detail["name"], detail["state"], detail["outcome"]) == ("quickstart", "succeeded", "succeeded")
    assert (detail["budget_usd"], detail["spent_usd"]) == ("3.00", "0.00")
    killed, succeeded = detail["attempts"]
    assert (killed["rank"], killed["variant"], killed["outcome"]) == (1, "exact", "oom_host")
    assert (killed["signal"], killed["exit_code"], killed["gpu"]) == (9, None, None)
    assert any("SIGKILL" in line for line in killed["evidence"])
    assert killed["peak_ram_bytes"] > 0.8 * 400_000_000
    assert (succeeded["variant"], succeeded["outcome"], succeeded["exit_code"]) == ("compact", "succeeded", 0)
    assert 0 < succeeded["peak_ram_bytes"] < 400_000_000
    for attempt in detail["attempts"]:
        assert (attempt["backend"], attempt["offer"], Decimal(attempt["cost_usd"])) == ("local", "cpu", 0)
        assert [step["state"] for step in attempt["steps"]] == ["done"] * 5
        assert all(step["tries"][0]["seconds"] >= 0 for step in attempt["steps"])


def test_the_results_come_home(demo: Demo, tmp_path: Path) -> None:
    demo.user.run("results", "quickstart", str(tmp_path))
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.98
    assert len(metrics["confusion_matrix"]) == 10
    assert (tmp_path / "results" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_the_next_run_uses_the_environment_and_what_was_learned(demo: Demo) -> None:
    before = sorted((demo.user.home / "local" / "environments").iterdir())
    detail = json.loads(demo.user.text("submit", str(SPEC), "--budget", "3", "--json"))
    assert [attempt["variant"] for attempt in detail["attempts"]] == ["compact"]
    assert sorted((demo.user.home / "local" / "environments").iterdir()) == before
