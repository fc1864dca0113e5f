"""Run the tests that rent, and those of conformance, and write what came of them into docs/reliability.md.

    .venv/bin/python tools/reliability.py            every point of the crash sweeps; `make reliability`
    .venv/bin/python tools/reliability.py --stride 3 --only aws
    .venv/bin/python tools/reliability.py --only conformance

Nothing is written unless every test passed. Needs what the emulated machines need: Linux, root, sshd.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as Xml
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from conformance_table import conformance_table

REPOSITORY = Path(__file__).parents[1]
DOCUMENT = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- {} by tools/reliability.py: begin -->", "<!-- end -->"
CONFORMANCE = "conformance"
TESTS = {
    "runpod": ("tests/e2e/test_runpod_*.py", "tests/crash/test_runpod_*.py"),
    "aws": ("tests/e2e/test_aws.py", "tests/crash/test_aws_*.py"),
    "gce": ("tests/e2e/test_gce.py", "tests/crash/test_gce_*.py"),
    CONFORMANCE: ("tests/conformance/test_conformance.py",),
}
"""What each table is made of."""

NAMES = {
    "compute": "Compute", "cuda": "CUDA", "ec2": "EC2", "engine": "Engine", "gb": "GB", "google": "Google",
    "gpu": "GPU", "gpus": "GPUs", "ssh": "SSH", "vram": "VRAM",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One scenario: its figures as its test recorded them, and the seconds that it took."""

    scenario: str
    machines_left: str
    over_reservation_usd: str
    results_lost: str
    seconds: float


def main() -> int:
    """Run, then write. The exit code of the tests where they fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1, help="die at every so many-th point of the crash sweeps")
    parser.add_argument("--workers", type=int, default=2, help="tests at once")
    parser.add_argument("--only", choices=TESTS, help="one of the tables")
    given = parser.parse_args()
    for what in [given.only] if given.only else TESTS:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.xml")
            code = run_tests(what, report, given.stride, given.workers)
            if code:
                return code
            cases = list(read(report))
        write(what, conformance_table(cases) if what == CONFORMANCE else table(cases, given.stride))
    return 0


def run_tests(what: str, report: Path, stride: int, workers: int) -> int:
    """Their exit code."""
    files = [str(path) for pattern in TESTS[what] for path in sorted(REPOSITORY.glob(pattern))]
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


def read(report: Path) -> Iterable[Mapping[str, str]]:
    """What each test recorded, with its ``name`` and ``time``. A skipped one was not measured: that ends it all."""
    cases = Xml.parse(report).iter("testcase")  # noqa: S314  written by the pytest that we have just run
    for case in sorted(cases, key=lambda case: (str(case.get("classname")), str(case.get("name")))):
        if (skipped := case.find("skipped")) is not None:
            sys.exit(f"{case.get('name')} was skipped ({skipped.get('message')}): there is no table without it")
        found = {str(each.get("name")): str(each.get("value")) for each in case.iter("property")}
        yield {"name": str(case.get("name")), "time": str(case.get("time") or 0.0), **found}


def row(case: Mapping[str, str]) -> Row:
    """A scenario's figures."""
    return Row(
        scenario=scenario(case["name"], case.get("crash_points")),
        machines_left=case["machines_left"],
        over_reservation_usd=f"{float(case['over_reservation_usd']):.6f}".rstrip("0").rstrip("."),
        results_lost="nobody came back" if case.get("nobody_came_back") == "True" else case["results_lost"],
        seconds=float(case["time"]),
    )


def scenario(test: str, crash_points: str | None) -> str:
    """A test's name as a sentence."""
    name, _, parameter = test.removeprefix("test_").partition("[")
    words = " ".join(NAMES.get(word, word) for word in name.split("_"))
    words = words[0].upper() + words[1:] + (f": {parameter.rstrip(']').replace('_', ' ')}" if parameter else "")
    return words + (f", its worker killed at {crash_points} points in turn" if crash_points else "")


def write(what: str, lines: str) -> None:
    """Put a table between its marks."""
    text, begin = DOCUMENT.read_text(encoding="utf-8"), BEGIN.format(what)
    before, mark, rest = text.partition(begin)
    assert mark, f"{DOCUMENT} has no {begin}"
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{begin}\n{lines}{END}{after}", encoding="utf-8")


def table(cases: Iterable[Mapping[str, str]], stride: int) -> str:
    """Markdown."""
    where = f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} CPUs"
    points = "every failpoint" if stride == 1 else f"one failpoint in {stride}"
    lines = [
        f"Measured on {datetime.now(UTC):%-d %B %Y} on {where}; the sweep died at {points}.",
        "",
        "| scenario | machines left | USD over reservation | results lost | seconds |",
        "|---|---|---|---|---|",
    ]
    for each in map(row, cases):
        figures = f"{each.machines_left} | {each.over_reservation_usd} | {each.results_lost} | {each.seconds:.0f}"
        lines.append(f"| {each.scenario} | {figures} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
