"""From ``gpujob submit`` of a job that does nothing to "succeeded": how long, and where the time goes.

    .venv/bin/python benchmarks/overhead.py [ROUNDS] [--peer PYTHON]          (15 rounds unless named)

A worker is running already. ``--peer`` names the Python of an environment that has ``submitit``; its LocalExecutor then
runs the same command in the same rounds. The aim: less than one second of our own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kit import GPUJOB, PASS, Spent, environment, machine, middle, ms, run, table, warm_worker, write_spec

from orchestrator.clock import moment
from orchestrator.home import Home
from orchestrator.records.reading import Reader

SUBMIT, PEER = "gpujob submit", "submitit LocalExecutor"
PEER_PROGRAM = """\
import submitit, sys
executor = submitit.LocalExecutor(folder=sys.argv[1])
executor.submit(submitit.helpers.CommandFunction(["true"], verbose=False)).result()
"""


def rounds_of(
    commands: Mapping[str, Sequence[str]], count: int, home: Home
) -> tuple[dict[str, list[Spent]], list[dict[str, float]]]:
    """Each command once per round; with every submission, where its time went."""
    env = environment(home.root)
    taken: dict[str, list[Spent]] = {name: [] for name in commands}
    parts: list[dict[str, float]] = []
    for command in commands.values():
        run(command, env)
    for _ in range(count):
        for name, command in commands.items():
            began = time.time()
            taken[name].append(run(command, env))
            if name == SUBMIT:
                parts.append(dict(split(Reader(home.journal), began, time.time())))
    return taken, parts


def split(reader: Reader, began: float, ended: float) -> Iterator[tuple[str, float]]:
    """The newest job's time by part, in seconds, from the journal's own stamps. The parts add up to the whole."""
    job = reader.rows("SELECT * FROM job ORDER BY created_at DESC LIMIT 1")[0]
    attempt = reader.attempts(job["id"])[0]
    steps = {step["name"]: reader.tries(step["id"])[0] for step in reader.steps(attempt["id"])}
    created, taken_up, first, over = (
        moment(text).timestamp()
        for text in (job["created_at"], job["started_at"], steps["provision"]["started_at"], job["ended_at"])
    )
    record = next(step["result"]["record"] for step in reader.steps(attempt["id"]) if step["name"] == "execute")
    command = float(record["run_seconds"])
    yield "command line starts, plans, records", created - began
    yield "worker takes the job up", taken_up - created
    yield "worker plans, reserves", first - taken_up
    for name, row in steps.items():
        yield (
            f"step {name}" + (" (without the command)" * (name == "execute")),
            row["seconds"] - command * (name == "execute"),
        )
    yield "the job's own command", command
    yield "between steps, settling", over - first - sum(row["seconds"] for row in steps.values())
    yield "command line notices, shows, ends", ended - over


def wholes_table(taken: Mapping[str, Sequence[Spent]]) -> str:
    """Whole processes, and their ratio to an empty one."""
    base = middle(taken[PASS])
    rows = []
    for name, each in taken.items():
        found = middle(each)
        rows.append((name, ms(found.wall), f"{found.wall / base.wall:.1f}", ms(found.best), ms(found.cpu)))
    return table(("process", "median", "ratio", "quickest", "CPU time"), rows)


def parts_table(parts: Sequence[Mapping[str, float]]) -> str:
    """Medians part by part; of medians, so that they add up only nearly."""
    names = parts[0].keys()
    rows = [(name, ms(statistics.median(part[name] for part in parts))) for name in names]
    own = statistics.median(sum(part.values()) - part["the job's own command"] for part in parts)
    return table(("part", "median"), [*rows, ("**all of our own**", ms(own))])


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("rounds", nargs="?", type=int, default=15)
    arguments.add_argument("--peer", help="a Python that has submitit")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpujob-bench-") as folder:
        spec = write_spec(Path(folder) / "job")
        commands = {
            PASS: [sys.executable, "-c", "pass"],
            SUBMIT: [GPUJOB, "submit", str(spec), "--budget", "1"],
        }
        if given.peer:
            commands[PEER] = [given.peer, "-c", PEER_PROGRAM, str(Path(folder) / "submitit")]
        print(f"{machine()}; {given.rounds} rounds\n")
        home = Home(Path(folder) / "home").ensure()
        with warm_worker(spec, environment(home.root)):
            taken, parts = rounds_of(commands, given.rounds, home)
    print(wholes_table(taken) + "\n\n" + parts_table(parts))


if __name__ == "__main__":
    main()
