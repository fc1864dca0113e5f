"""Commands that look: what they print, their JSON, their help; on a home with three jobs behind it."""

from __future__ import annotations

import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest
from e2e_kit import COMMAND, REPOSITORY, Gpujob

COMMANDS = (
    "submit", "plan", "validate", "schema", "init", "ls", "show", "logs", "results", "cancel", "resume", "report",
    "backends", "doctor", "reap", "worker",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(user: Gpujob, command: str) -> None:
    assert f"Example: gpujob {command}" in user.text(command, "--help")


def test_help_and_version_need_no_home(user: Gpujob) -> None:
    screen = user.text("--help")
    assert all(f"  {command} " in screen for command in COMMANDS)
    assert user.text("--version").startswith("gpujob ")
    assert not user.home.exists()


def test_looking_at_nothing(user: Gpujob) -> None:
    assert "No jobs yet" in user.text("ls")
    assert user.json("ls") == []
    assert user.json("report")["total"]["usd"] == "0.00"
    assert "No unfinished jobs" in user.text("resume")
    assert "accounted for" in user.text("reap")
    assert user.json("reap") == []
    assert "No job starts with 'x'" in user.refused("show", "x")


# one job


SHOW = {
    "id", "name", "state", "outcome", "budget_usd", "spent_usd", "attempts", "summary", "priority", "reserved_usd",
    "cancel_requested", "created_at", "started_at", "ended_at", "plan",
    "notes",
}  # fmt: skip
ATTEMPT = {
    "rank", "backend", "offer", "gpu", "variant", "outcome", "evidence", "exit_code", "signal", "peak_ram_bytes",
    "peak_vram_bytes", "cost_usd", "steps",
}  # fmt: skip
STEPS = ["provision", "upload", "execute", "fetch", "teardown"]


def test_show_has_everything(settled: Gpujob) -> None:
    detail = settled.show("fallen")
    assert set(detail) == SHOW
    assert (detail["state"], detail["outcome"], detail["budget_usd"]) == ("succeeded", "succeeded", "1.00")
    for attempt in detail["attempts"]:
        assert set(attempt) >= ATTEMPT
        assert [step["name"] for step in attempt["steps"]] == STEPS
        assert {step["state"] for step in attempt["steps"]} == {"done"}
        tries = [t for step in attempt["steps"] for t in step["tries"]]
        assert len(tries) == len(STEPS)
        assert all(t["started_at"].endswith("Z") and t["seconds"] >= 0 and t["error"] is None for t in tries)
    assert sum(Decimal(a["cost_usd"]) for a in detail["attempts"]) == Decimal(detail["spent_usd"]) > 0


def test_show_as_text(settled: Gpujob) -> None:
    screen = settled.text("show", "fallen")
    for word in ("Attempt 1: big on local cpu", "killed", "signal 9", "Attempt 2: small", *STEPS, "spent $0.0"):
        assert word in screen


def test_ls(settled: Gpujob) -> None:
    rows = settled.json("ls")
    assert [row["name"] for row in rows] == ["broken", "fallen", "fine"]
    assert [row["state"] for row in rows] == ["failed", "succeeded", "succeeded"]
    assert len(settled.json("ls", "-n", "1")) == 1
    assert [line.split()[0] for line in settled.text("ls").splitlines()] == ["job", *(row["id"] for row in rows)]


def test_a_job_by_its_prefix(settled: Gpujob) -> None:
    whole = settled.jobs()[0]["id"]
    assert settled.show("b")["id"] == settled.show(whole)["id"] == whole
    message = settled.refused("show", "f")
    assert "'f' is not unique" in message
    assert all(row["id"] in message for row in settled.jobs()[1:])
    for command in ("show", "logs", "results", "cancel", "resume"):
        assert "No job starts with 'nope'" in settled.refused(command, "nope")
        assert "Name a job" in settled.refused(command, "")


def test_no_name_is_no_prefix(user: Gpujob) -> None:
    user.submit(user.job("true"))
    assert "Name a job" in user.refused("cancel", "")


def test_logs(settled: Gpujob) -> None:
    assert settled.text("logs", "fine") == "hello\noops\n"
    assert settled.text("logs", "-f", "fine") == "hello\noops\n"
    assert settled.text("logs", "broken", "--attempt", "1") == "last words\n"


@pytest.mark.parametrize("command", ["logs", "results"])
def test_an_attempt_that_never_was(settled: Gpujob, command: str) -> None:
    assert "has no attempt 9; it has 1, 2." in settled.refused(command, "fallen", "--attempt", "9")


def test_results_are_listed_copied_and_never_replaced_unasked(settled: Gpujob, tmp_path: Path) -> None:
    (row,) = settled.json("results", "fine")
    assert (row["path"], row["bytes"], row["copied_to"]) == ("out/a.txt", 5, None)
    assert Path(row["stored_at"]).read_text() == "fine\n"
    assert "out/a.txt" in settled.text("results", "fine")
    target = tmp_path / "to" / "out" / "a.txt"
    settled.run("results", "fine", str(tmp_path / "to"))
    settled.run("results", "fine", str(tmp_path / "to"))
    assert target.read_text() == "fine\n"
    target.write_text("mine")
    assert settled.run("results", "fine", str(tmp_path / "to"), code=2)
    assert target.read_text() == "mine"
    (row,) = settled.json("results", "fine", str(tmp_path / "to"), "--force")
    assert row["copied_to"] == str(target)
    assert target.read_text() == "fine\n"


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_results_never_replace_a_folder(settled: Gpujob, tmp_path: Path, options: list[str]) -> None:
    kept = tmp_path / "out" / "a.txt" / "kept"
    kept.mkdir(parents=True)
    assert "out/a.txt is a folder where a file would go" in settled.refused("results", "fine", str(tmp_path), *options)
    (tmp_path / "file").write_text("")
    message = settled.refused("results", "fine", str(tmp_path / "file"), *options)
    assert "file is a file where a folder would go" in message
    assert [path.name for path in kept.parent.iterdir()] == ["kept"]


def test_results_of_each_attempt(settled: Gpujob) -> None:
    for number, how in ((1, "big\n"), (2, "small\n")):
        (row,) = settled.json("results", "fallen", "--attempt", str(number))
        assert Path(row["stored_at"]).read_text() == how
    assert "no results" in settled.text("results", "broken", code=1)
    assert settled.json("results", "broken", code=1) == []


# money


@pytest.mark.parametrize("by", ["job", "backend", "variant", "day"])
def test_report_accounts_for_every_cent(settled: Gpujob, by: str) -> None:
    report = settled.json("report", "--by", by)
    shown = [settled.show(job["id"]) for job in settled.jobs()]
    spent = sum(Decimal(detail["spent_usd"]) for detail in shown)
    total = report["total"]
    assert Decimal(total["usd"]) == spent
    for line in (*report["lines"], total):
        assert sum(Decimal(line[f"{part}_usd"]) for part in ("success", "failed", "idle")) == Decimal(line["usd"])
    assert sum(Decimal(line["usd"]) for line in report["lines"]) == spent
    assert (total["attempts"], total["succeeded"]) == (4, 2)
    lines = settled.text("report", "--by", by).splitlines()
    assert len(lines) == len(report["lines"]) + 2


def test_report_names_its_lines(settled: Gpujob) -> None:
    names = {by: {line["name"] for line in settled.json("report", "--by", by)["lines"]} for by in ("job", "variant")}
    assert names["job"] == {job["id"] for job in settled.jobs()}
    assert names["variant"] == {"fine default", "broken default", "fallen big", "fallen small"}
    for job, line in ((job, line) for job in settled.jobs() for line in settled.json("report")["lines"]):
        assert line["name"] != job["id"] or line["usd"] == job["spent_usd"]


def test_report_since(settled: Gpujob) -> None:
    for day in ("2020-01-01", "20200101", settled.jobs()[-1]["created_at"][:10].replace("-", "")):
        assert settled.json("report", "--since", day)["total"]["attempts"] == 4
    assert settled.json("report", "--since", "2999-01-01")["total"]["attempts"] == 0
    assert "is not a date" in settled.refused("report", "--since", "soon")


def test_charges_are_what_was_reserved_at_most(settled: Gpujob) -> None:
    for job in settled.jobs():
        for attempt in settled.show(job["id"])["attempts"]:
            assert 0 < Decimal(attempt["cost_usd"]) <= Decimal(attempt["reserved_usd"])
            assert sum(Decimal(charge["usd"]) for charge in attempt["charges"]) == Decimal(attempt["cost_usd"])


def test_settings(settled: Gpujob) -> None:
    assert settled.json("config", "list")["local.price_per_hour"] == {"value": "3.60", "set": True}
    assert "local.price_per_hour" in settled.text("config", "list")
    assert "no setting 'local.colour'" in settled.refused("config", "set", "local.colour", "red")
    for value in ("cheap", "-3"):
        assert f"'{value}' is not an amount of money" in settled.refused("config", "set", "local.price_per_hour", value)


# this machine


def test_backends(settled: Gpujob) -> None:
    states = settled.json("backends")
    assert states[0]["name"] == "local"
    assert states[0]["ready"] is True
    assert all(set(state) == {"name", "ready", "summary", "missing", "how"} for state in states)
    assert "local" in settled.text("backends")


def test_doctor_says_which_jobs_fit(settled: Gpujob, tmp_path: Path) -> None:
    for name, ram in (("fits", "1 MB"), ("huge", "900 TB")):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nrun: 'true'\nneeds: {{ram: {ram}}}\n")
    (tmp_path / "wrong.yaml").write_text("name: wrong\n")
    here = Gpujob(settled.home, tmp_path)
    found = json.loads(subprocess.run([*COMMAND, "doctor", "--json"], cwd=tmp_path, env=here.environment(),
                                      capture_output=True, check=False).stdout)  # fmt: skip
    assert {fit["spec"]: fit["fits"] for fit in found["specs"]} == {
        "fits.yaml": True, "huge.yaml": False, "wrong.yaml": False,
    }  # fmt: skip
    assert found["ram"]["total_bytes"] > 0
    assert found["disk"]["free_bytes"] > 0
    assert found["memory_cap"] in ("cgroup2", "cgroup1", "systemd", "watch")
    screen = subprocess.run([*COMMAND, "doctor"], cwd=tmp_path, env=here.environment(), capture_output=True, text=True)
    assert all(word in screen.stdout for word in ("RAM", "disk", "GPU", "memory cap", "worker", "fits.yaml", "yes: "))


# specs


def test_validate_plan_and_schema_record_nothing(user: Gpujob) -> None:
    spec = user.job("true", "params: {n: 3}")
    assert "is valid" in user.text("validate", spec)
    checked = user.json("validate", spec, "--param", "n=4")
    assert (checked["valid"], checked["files"], checked["spec"]["params"]) == (True, 2, {"n": 4})
    assert user.json("plan", spec, "--budget", "0")["ladder"][0]["variant"] == "default"
    assert "Plan" in user.text("plan", spec, "--budget", "1", "--priority", "speed", "--backend", "local")
    schema = json.loads(user.text("schema"))
    assert {"name", "run", "variants", "on_oom"} <= set(schema["properties"])
    assert user.jobs() == []


LADDER = {
    "rank", "backend", "offer", "gpu", "variant", "usd_per_hour", "expected_minutes", "expected_usd",
    "worst_case_usd", "p_success", "reasons",
}  # fmt: skip


def test_plan_json(user: Gpujob) -> None:
    spec = user.job("true", "variants: [{name: a}, {name: b, needs: {ram: 900 TB}, quality: 0.5}]")
    plan = user.json("plan", spec, "--budget", "1")
    assert set(plan) >= {"ladder", "p_success", "expected_usd", "worst_case_usd", "rejected"}
    assert set(plan["ladder"][0]) >= LADDER
    assert set(plan["rejected"][0]) == {"backend", "offer", "variant", "code", "reason", "alike", "count"}
    assert ("local", "b", "ram") in {(each["backend"], each["variant"], each["code"]) for each in plan["rejected"]}


@pytest.mark.parametrize("command", ["plan", "submit"])
def test_nothing_feasible_is_exit_3_with_the_nearest_change(user: Gpujob, command: str) -> None:
    spec = user.job("true", "needs: {ram: 900 TB}")
    screen = user.text(command, spec, "--budget", "1", code=3)
    (nearest,) = (line for line in screen.splitlines() if "No feasible plan" in line)
    assert "900 TB" in nearest
    user.run(command, spec, "--budget", "1", "--json", code=3)
    assert user.jobs() == []


@pytest.mark.parametrize("command", ["plan", "submit"])
def test_a_budget_that_is_too_small_is_exit_3(user: Gpujob, command: str) -> None:
    user.run("config", "set", "local.price_per_hour", "100")
    spec = user.job("true", "duration: {on: cpu, minutes: 30}")
    assert "--budget" in user.text(command, spec, "--budget", "0.50", code=3)
    assert user.jobs() == []


def test_a_budget_of_nothing_buys_what_is_free(user: Gpujob) -> None:
    detail = json.loads(user.text("submit", user.job("true"), "--budget", "0", "--json"))
    assert (detail["state"], detail["spent_usd"], detail["budget_usd"]) == ("succeeded", "0.00", "0.00")


def test_init_writes_what_validates_and_never_replaces(user: Gpujob) -> None:
    assert "gpujob submit" in user.text("init", "train.yaml", "--run", "python train.py --lr 1e-3", "--gpu", "1")
    user.run("validate", "train.yaml")
    before = (user.cwd / "train.yaml").read_text()
    user.run("init", "train.yaml", code=2)
    assert (user.cwd / "train.yaml").read_text() == before
    user.run("init")
    assert user.json("validate", "job.yaml")["spec"]["needs"]["gpu"] is None


@pytest.mark.parametrize("gpu", ["0", "-1", "T4:2"])
def test_init_writes_nothing_that_is_not_valid(user: Gpujob, gpu: str) -> None:
    message = user.refused("init", f"--gpu={gpu}")
    assert "job.yaml was not written: needs.gpu" in message
    assert "a count such as 1" in message
    assert list(user.cwd.iterdir()) == []


def test_examples_of_this_repository_are_valid(user: Gpujob) -> None:
    for spec in sorted((REPOSITORY / "jobs").glob("*/*.yaml")):
        assert user.json("validate", str(spec))["valid"] is True


# bad input


BAD_SPECS: dict[str, tuple[str, str]] = {
    "yaml": ("name: a\nrun: [\n", "bad.yaml:"),
    "unknown key": ("name: a\nrun: x\nvariant: []\n", "bad.yaml:3: variant: unknown key"),
    "size": ("name: a\nrun: x\nneeds: {ram: 4}\n", "bad.yaml:3: needs.ram"),
    "type": ("name: a\nrun: x\nlimits: {attempts: many}\n", "bad.yaml:3: limits.attempts"),
    "no value": ("name: a\nrun: x {missing}\n", "bad.yaml:2"),
    "escape": ("name: a\nrun: x\nresults: [../out]\n", "bad.yaml:3: results"),
}


@pytest.mark.parametrize("fault", BAD_SPECS)
def test_a_bad_spec_is_told_with_its_line(settled: Gpujob, fault: str) -> None:
    text, place = BAD_SPECS[fault]
    settled.write("bad.yaml", text)
    before = settled.jobs()
    for typed in (["submit", "bad.yaml", "--budget", "1"], ["validate", "bad.yaml"]):
        assert place in settled.refused(*typed)
    assert settled.jobs() == before


BAD_OPTIONS: dict[str, tuple[list[str], str]] = {
    "budget word": (["--budget", "abc"], "'abc' is not an amount"),
    "budget debt": (["--budget", "-1"], "'-1'"),
    "budget huge": (["--budget", "1e400"], "1e400"),
    "budget nan": (["--budget", "nan"], "'nan'"),
    "budget dust": (["--budget", "0.0000001"], "0.0000001"),
    "no budget": ([], "--budget"),
    "param": (["--budget", "1", "--param", "n"], "'n' has no value"),
    "unknown param": (["--budget", "1", "--param", "m=1"], "--param m: unknown"),
    "param type": (["--budget", "1", "--param", "n=x"], "--param n"),
    "backend": (["--budget", "1", "--backend", "moon"], "no backend 'moon'"),
    "runtime": (["--budget", "1", "--max-runtime", "soon"], "'soon'"),
    "no runtime": (["--budget", "1", "--max-runtime", "0s"], "0s"),
    "priority": (["--budget", "1", "--priority", "luck"], "'luck'"),
}


@pytest.mark.parametrize("fault", BAD_OPTIONS)
def test_a_bad_option_is_refused(settled: Gpujob, fault: str) -> None:
    options, word = BAD_OPTIONS[fault]
    spec = settled.job("true", "params: {n: 1}", name="refused")
    before = settled.jobs()
    assert word in settled.refused("submit", spec, *options)
    assert word in settled.refused("plan", spec, *options)
    assert settled.jobs() == before


def test_a_missing_file_and_a_folder(user: Gpujob) -> None:
    assert "no such file" in user.refused("submit", "none.yaml", "--budget", "1")
    assert "folder" in user.refused("submit", ".", "--budget", "1")
    assert user.jobs() == []


def test_a_missing_secret(user: Gpujob) -> None:
    spec = user.job('echo "token: $E2E_TOKEN, ${#E2E_TOKEN} long"', "secrets: [E2E_TOKEN]")
    assert "export E2E_TOKEN=" in user.refused("submit", spec, "--budget", "1", "--json")
    assert user.jobs() == []
    detail = user.submit(spec, E2E_TOKEN="s3cret-value")
    assert detail["state"] == "succeeded"
    assert "12 long" in user.text("logs", "job")
    user.stop_workers()
    texts = [path.read_bytes() for path in user.home.rglob("*") if path.is_file()]
    assert not any(b"s3cret-value" in text for text in texts)


# surroundings


def test_a_home_that_is_a_file(user: Gpujob) -> None:
    user.home.write_text("")
    for typed in (["submit", user.job("true"), "--budget", "1"], ["doctor"]):
        assert str(user.home) in user.refused(*typed, code=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="NOT TESTED: nothing is read-only to root")
def test_a_home_that_cannot_be_written(user: Gpujob) -> None:
    user.home.mkdir(mode=0o500)
    assert "GPUJOB_HOME" in user.refused("submit", user.job("true"), "--budget", "1", code=1)


def test_nobody_reads_the_output(settled: Gpujob) -> None:
    line = f"{' '.join(COMMAND)} report --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=settled.environment(), capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("columns", ["20", "1"])
def test_a_narrow_screen(settled: Gpujob, columns: str) -> None:
    for typed in (["ls"], ["show", "fallen"], ["report"]):
        settled.run(*typed, COLUMNS=columns)


def test_output_that_is_not_looked_at_has_no_colour(settled: Gpujob) -> None:
    for typed in (["ls"], ["show", "fallen"], ["report"], ["doctor"]):
        assert (
            "\x1b"
            not in subprocess.run(
                [*COMMAND, *typed], env=settled.environment(), cwd=settled.cwd, capture_output=True, text=True
            ).stdout
        )


def test_an_encoding_that_lacks_our_marks(user: Gpujob) -> None:
    screen = user.text("submit", user.job("true"), "--budget", "1", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert "? succeeded" in screen
    assert "internal error" not in screen


def test_a_job_cannot_drive_the_terminal(user: Gpujob) -> None:
    spec = user.job(r"printf '\033[2J\033]0;owned\007seen\n'; printf '\033[31mlast\n' >&2; exit 5")
    screen = user.text("submit", spec, "--budget", "1", code=1)
    for text in (screen, user.text("logs", "job"), user.text("show", "job"), user.text("ls")):
        assert not {"\x1b", "\x07"} & set(text)
    assert user.text("logs", "job") == "seen\nlast\n"


def test_nothing_is_said_twice(user: Gpujob) -> None:
    words = "these are the last words"
    screen = user.text("submit", user.job(f"echo {words}; exit 7"), "--budget", "1", code=1)
    assert screen.count("exited with code 7") == 1
    assert "failed in attempt 1: exit code 7" in screen
    shown = user.text("show", "job")
    assert (shown.count("exited with code 7"), shown.count(words)) == (1, 1)
    assert "exited with code 0" not in user.text("submit", user.job("true", name="fine"), "--budget", "1")


def test_unknown_words(user: Gpujob) -> None:
    assert "No such command" in user.refused("sbumit")
    assert "No such option" in user.refused("ls", "--colour")
