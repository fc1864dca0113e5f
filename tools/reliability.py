"""Run the tests that rent, and write what they measured into docs/reliability.md, between its two marks.

    .venv/bin/python tools/reliability.py            every point of the crash sweep; `make reliability`
    .venv/bin/python tools/reliability.py --stride 3

Nothing is written unless every test passed. Needs what the pods of the emulator need: Linux, root, sshd.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as Xml
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DOCUMENT = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- measured by tools/reliability.py: begin -->", "<!-- end -->"
TESTS = ("tests/e2e/test_runpod_*.py", "tests/crash/test_runpod_*.py")


NAMES = {"cuda": "CUDA", "gpu": "GPU", "gpus": "GPUs", "ssh": "SSH", "vram": "VRAM"}


@dataclass(frozen=True)
class Row:
    """One scenario: its figures as its test recorded them, and the seconds that it took."""

    scenario: str
    pods_left: str
    over_reservation_usd: str
    results_lost: str
    seconds: float


def main() -> int:
    """Run, then write. The exit code of the tests where they fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1, help="die at every so many-th point of the crash sweep")
    parser.add_argument("--workers", type=int, default=2, help="tests at once")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        code = run_tests(report, given.stride, given.workers)
        if code:
            return code
        rows = list(read(report))
    write(rows, given.stride)
    return 0


def run_tests(report: Path, stride: int, workers: int) -> int:
    """Their exit code."""
    files = [str(path) for pattern in TESTS for path in sorted(REPOSITORY.glob(pattern))]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        str(workers),
        "--dist",
        "worksteal",
        f"--junitxml={report}",
        *files,
    ]
    return subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "GPUJOB_CRASH_STRIDE": str(stride)}, check=False
    ).returncode


def read(report: Path) -> Iterable[Row]:
    """A row for each test. A skipped one was not measured: that ends it all."""
    cases = Xml.parse(report).iter("testcase")  # noqa: S314  written by the pytest that we have just run
    for case in sorted(cases, key=lambda case: (str(case.get("classname")), str(case.get("name")))):
        if (skipped := case.find("skipped")) is not None:
            sys.exit(f"{case.get('name')} was skipped ({skipped.get('message')}): there is no table without it")
        found = {each.get("name"): str(each.get("value")) for each in case.iter("property")}
        yield Row(
            scenario=scenario(str(case.get("name")), found.get("crash_points")),
            pods_left=found["pods_left"],
            over_reservation_usd=f"{float(found['over_reservation_usd']):.6f}".rstrip("0").rstrip("."),
            results_lost="nobody came back" if found.get("nobody_came_back") == "True" else found["results_lost"],
            seconds=float(case.get("time") or 0.0),
        )


def scenario(test: str, crash_points: str | None) -> str:
    """A test's name as a sentence."""
    name, _, parameter = test.removeprefix("test_").partition("[")
    words = " ".join(NAMES.get(word, word) for word in name.split("_"))
    words = words[0].upper() + words[1:] + (f": {parameter.rstrip(']').replace('_', ' ')}" if parameter else "")
    return words + (f", its worker killed at {crash_points} points in turn" if crash_points else "")


def write(rows: list[Row], stride: int) -> None:
    """Put the table between the marks."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(rows, stride)}{END}{after}", encoding="utf-8")


def table(rows: list[Row], stride: int) -> str:
    """Markdown."""
    where = f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} CPUs"
    points = "every failpoint" if stride == 1 else f"one failpoint in {stride}"
    lines = [
        f"Measured on {datetime.now(UTC):%-d %B %Y} on {where}; the sweep died at {points}.",
        "",
        "| scenario | pods left | USD over reservation | results lost | seconds |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        figures = f"{row.pods_left} | {row.over_reservation_usd} | {row.results_lost} | {row.seconds:.0f}"
        lines.append(f"| {row.scenario} | {figures} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
