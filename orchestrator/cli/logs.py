"""A job's output: whole, its last lines, or as it comes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from orchestrator.cli.failing import BAD_INPUT
from orchestrator.cli.screen import complain, plain, say
from orchestrator.home import Home
from orchestrator.records.reading import Reader
from orchestrator.records.states import JobState

NAMES = ("setup.log", "stdout.log", "stderr.log")
TAIL_BYTES = 64 * 1024


def last_lines(folder: Path, count: int) -> list[str]:
    """The last lines that the run wrote, errors after output."""
    return [line for name in NAMES for line in last_lines_of(folder / name, count)][-count:]


def last_lines_of(path: Path, count: int) -> list[str]:
    """The last lines of one file that are not empty, safe to show."""
    return [plain(line) for line in _tail(path).splitlines() if line.strip()][-count:]


def show_logs(home: Home, reader: Reader, job: str, attempt: int | None, *, follow: bool) -> int:
    """Print what an attempt (the last one, if not named) wrote; with ``follow``, go on until the job is over."""
    if attempt is not None and attempt not in (numbers := _numbers(reader, job)):
        complain(f"{job} has no attempt {attempt}; it has {', '.join(map(str, numbers)) or 'none yet'}")
        return BAD_INPUT
    shown: dict[Path, int] = {}
    while True:
        final = JobState(reader.job(job)["state"]).final
        for number in [attempt] if attempt else _numbers(reader, job)[-1:]:
            for name in NAMES:
                _print_new(home.attempt(job, number) / name, shown)
        if final or not follow:
            return 0 if shown else _nothing(job, final=final)
        time.sleep(0.2)


def _numbers(reader: Reader, job: str) -> list[int]:
    return [row["number"] for row in reader.attempts(job)]


def _print_new(path: Path, shown: dict[Path, int]) -> None:
    try:
        with path.open("rb") as file:
            file.seek(shown.get(path, 0))
            while data := file.read(1 << 20):
                sys.stdout.write(plain(data.decode("utf-8", errors="replace").replace("\r", "\n")))
            shown[path] = file.tell()
        sys.stdout.flush()
    except FileNotFoundError:
        return


def _nothing(job: str, *, final: bool) -> int:
    say(f"{job} has written nothing{'' if final else ' yet'}.")
    return 0


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace").replace("\r", "\n")
    except FileNotFoundError:
        return ""
