"""Watching a job: its events and steps as they come, memory against the cap, and its end."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from backends.units import decimal_usd, format_duration, format_size
from orchestrator.cli.plans import usd
from orchestrator.cli.screen import (
    StatusLine,
    ask,
    bad,
    bar,
    bold,
    counted,
    dim,
    good,
    is_terminal,
    one_line,
    plain,
    say,
    warned,
    wrapped,
)
from orchestrator.cli.showing import new_evidence, short_end
from orchestrator.cli.tails import last_lines
from orchestrator.cli.transfers import transfer_text
from orchestrator.cli.waker import Waker
from orchestrator.home import Home
from orchestrator.records.reading import Reader, Row
from orchestrator.records.states import JobState

LOOK_SECONDS = 0.1
EXIT_CODES = {JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.CANCELLED: 130}


@dataclass
class Follower:
    """One watcher of one job. Holds only what it has already shown; ``seen`` is the last event that was told."""

    home: Home
    reader: Reader
    job: str
    seen: int = 0
    _attempt: int = 0
    _tries: dict[int, str] = field(default_factory=dict)
    _ram_mark: int = -1
    _line: StatusLine = field(default_factory=StatusLine)

    def to_the_end(self) -> int:
        """Show everything until the job is over; its exit code. Raises KeyboardInterrupt when interrupted."""
        waker = Waker(self.home)
        while True:
            state = JobState(self.reader.job(self.job)["state"])
            self._show_news()
            if state.final:
                self._line.clear()
                self._show_end()
                return EXIT_CODES[state]
            self._show_reading()
            if words := waker.look():
                self._line.clear()
                say(words)
            time.sleep(LOOK_SECONDS)

    def pause(self) -> None:
        """Clear the changing line, so that a question can be asked."""
        self._line.clear()

    def _show_news(self) -> None:
        for event in self.reader.events(self.job, self.seen):
            if event["kind"] == "outcome":
                self._show_steps(event["data"]["attempt"])
            self.seen = event["id"]
            self._show_event(event)
        self._show_steps(self._attempt)

    def _show_event(self, event: Row) -> None:
        kind, text = event["kind"], plain(event["text"])
        if kind in ("smoke", "submitted", "finished"):
            return
        self._line.clear()
        if kind == "attempt":
            self._attempt, self._ram_mark = event["data"]["attempt"], -1
            head = text.partition(" (")[0]
            say(f"\n{bold(head[0].upper() + head[1:])}")
            say(dim(wrapped(event["data"]["why"], 2)))
        elif kind == "outcome":
            self._show_outcome(event["data"]["outcome"], text.partition(": ")[2], event["data"]["evidence"])
        else:
            say(f"  {warned('!')} {wrapped(text, 4).lstrip()}")

    def _show_outcome(self, outcome: str, summary: str, evidence: list[str]) -> None:
        mark, styled = ("✓", good) if outcome == "succeeded" else ("✗", bad)
        text = wrapped(f"{mark} {outcome}: {summary}", 2, 4)
        say(text.replace(f"{mark} {outcome}", f"{styled(mark)} {bold(outcome)}", 1))
        for line in new_evidence(outcome, summary, evidence):
            say(dim(wrapped(line, 6)))

    def _show_steps(self, number: int) -> None:
        ids = [attempt["id"] for attempt in self.reader.attempts(self.job) if attempt["number"] == number]
        for step in (step for attempt_id in ids for step in self.reader.steps(attempt_id)):
            for row in self.reader.tries(step["id"]):
                if self._tries.get(row["id"]) != row["state"]:
                    self._tries[row["id"]] = row["state"]
                    self._show_try(step, row)

    def _show_try(self, step: Row, row: Row) -> None:
        name = step["name"]
        if row["state"] == "running":
            self._line.show(dim(f"    {name} ..."))
            return
        self._line.clear()
        again = f" (try {row['number']})" if row["number"] > 1 else ""
        took = format_duration(row["seconds"]) if row["seconds"] is not None else ""
        if row["state"] == "done":
            say(f"    {good('·')} {name:<10}{took:>8}{again}{_peak(step) if name == 'execute' else ''}")
        else:
            say(f"    {warned('!')} {name:<10}{took:>8}{again}")
            say(wrapped(f"{row['error'] or ''}: {row['action']}", 6))

    def _show_reading(self) -> None:
        reading = self._reading()
        if reading is None or reading["attempt"] != self._attempt:
            return
        if reading["phase"] == "waiting":
            self._line.show(dim(f"      waiting: {one_line(reading['waiting'])}"))
        elif "done" in reading:
            text = transfer_text(reading["phase"], reading["done"], reading["total"], reading["bytes_per_second"])
            self._line.show(dim(f"      {text}"))
        elif reading["phase"] == "setup":
            self._line.show(dim("      setup: making the job's environment ..."))
        elif reading["phase"] == "running" and reading.get("ram_bytes"):
            self._show_running(reading)

    def _show_running(self, reading: dict[str, Any]) -> None:
        ram, limit = reading["ram_bytes"], reading.get("memory_cap_bytes") or reading["ram_total_bytes"]
        share = ram / limit
        text = f"      RAM {format_size(ram):>7} of {format_size(limit)}  {bar(share)} {share:4.0%}"
        if reading.get("vram_bytes") and reading.get("vram_total_bytes"):
            text += f"   VRAM {format_size(reading['vram_bytes'])} of {format_size(reading['vram_total_bytes'])}"
        if is_terminal():
            self._line.show(text)
        elif (mark := int(share * 5)) > self._ram_mark:
            self._ram_mark = mark
            say(text)

    def _reading(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self.home.live(self.job).read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def _show_end(self) -> None:
        row = self.reader.job(self.job)
        attempts = self.reader.attempts(self.job)
        spent = sum(attempt["cost_micros"] for attempt in attempts)
        mark = good("✓") if row["state"] == "succeeded" else bad("✗")
        say(f"\n{mark} {bold(self.job)} {wrapped(short_end(row['summary'], attempts), 2).lstrip()}")
        say(f"  cost: {usd(decimal_usd(spent))} of {usd(decimal_usd(row['budget_micros']))}{self._split(attempts)}")
        if row["state"] == "succeeded":
            self._show_results(attempts[-1])
        elif row["state"] == "failed":
            self._show_last_words(attempts)

    def _split(self, attempts: list[Row]) -> str:
        sums = {"success": 0, "failed attempts": 0, "idle": 0, "waste": 0}
        for attempt in attempts:
            for charge in self.reader.charges(attempt["id"]):
                paid = "success" if attempt["outcome"] == "succeeded" else "failed attempts"
                sums[charge["kind"] if charge["kind"] in sums else paid] += charge["micros"]
        shown = (f"{name} {usd(decimal_usd(micros))}" for name, micros in sums.items() if micros or name != "waste")
        return "  (" + ", ".join(shown) + ")"

    def _show_results(self, attempt: Row) -> None:
        folder = self.home.fetched(self.job, attempt["number"])
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            return
        say(f"  results: {counted(len(files), 'file')} in {folder}")
        for path in files[:10]:
            say(dim(f"      {one_line(str(path.relative_to(folder)))}  {format_size(path.stat().st_size)}"))
        say(f"  copy them here: gpujob results {self.job} .")

    def _show_last_words(self, attempts: list[Row]) -> None:
        if attempts:
            for line in last_lines(self.home.attempt(self.job, attempts[-1]["number"]), 12):
                say(dim(f"      {line}"))
        say(f"  more: gpujob show {self.job}, gpujob logs {self.job}")


def _peak(execute: Row) -> str:
    """The RAM that a run used at most, against its cap, by the record that its step kept."""
    record = (execute["result"] or {}).get("record", {})
    if not (peak := record.get("peak_ram_bytes")):
        return ""
    cap, setup = record.get("memory_cap_bytes"), record.get("setup_seconds")
    text = f"   setup {format_duration(setup)}," if setup and setup >= 1 else "  "
    return f"{text} peak RAM {format_size(peak)}" + (f" of {format_size(cap)}  {bar(peak / cap)}" if cap else "")


def wait_quietly(home: Home, reader: Reader, job: str) -> int:
    """Wait for the job's end without showing anything; its exit code."""
    waker = Waker(home)
    while not (state := JobState(reader.job(job)["state"])).final:
        if words := waker.look():
            print(words, file=sys.stderr, flush=True)
        time.sleep(LOOK_SECONDS)
    return EXIT_CODES[state]


def ask_interrupted(job: str) -> str:
    """What Ctrl-C means: ``detach``, ``cancel`` or ``go on``. Without a terminal it means detach."""
    if not (sys.stdin.isatty() and is_terminal()):
        return "detach"
    say(f"\nThe job {job} runs on by itself.")
    answers = {"": "detach", "d": "detach", "c": "cancel", "g": "go on"}
    meant = None
    try:
        while meant is None:
            answer = ask("[d]etach and let it run, [c]ancel it, or [g]o on watching? [d] ")
            meant = answers.get(answer.lower()[:1])
    except KeyboardInterrupt:
        return "detach"
    return meant
