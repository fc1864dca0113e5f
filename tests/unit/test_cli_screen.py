"""What commands put on the screen: tables on a terminal, paragraphs, and texts from jobs made harmless."""

from __future__ import annotations

import io
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.options import checked_date
from orchestrator.cli.plans import plan_text
from orchestrator.cli.screen import StatusLine, one_line, plain, table, wrapped
from orchestrator.cli.showing import detail_text, list_text, new_evidence, short_end
from orchestrator.text import TerminalText, without_escapes

HEADERS = ("job", "place", "spent", "how it ended")
ROW = ("noop-abcde", "local cpu", "$1.00", "failed in attempt 1 of 4")


@contextmanager
def terminal(columns: int) -> Iterator[None]:
    """Standard output is a terminal, so wide."""
    screen, line = pty.openpty()
    with os.fdopen(line, "w") as stdout, redirect_stdout(stdout), pytest.MonkeyPatch.context() as env:
        env.setenv("NO_COLOR", "1")
        env.setenv("COLUMNS", str(columns))
        yield
    os.close(screen)


# tables


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(80, HEADERS), (53, ("job", "spent", "how it ended")), (40, ("job", "how it ended"))],
)
def test_spare_columns_give_way_one_by_one(columns: int, shown: tuple[str, ...]) -> None:
    with terminal(columns):
        head, line = table(HEADERS, [ROW], spare=("place", "spent")).splitlines()
    assert [name for name in HEADERS if name in head] == list(shown)
    assert line.split("  ") == [text for name, text in zip(HEADERS, ROW, strict=True) if name in shown]


def test_the_last_column_is_cut_to_the_terminal() -> None:
    with terminal(30):
        lines = table(("job", "how it ended"), [("noop", "x" * 100)]).splitlines()
    assert lines[1] == "noop  " + "x" * 23 + "…"


def test_a_last_column_that_must_be_seen_whole_goes_on_below() -> None:
    with terminal(40):
        text = table(("setting", "meaning"), [("a.b", "one two three four five six seven eight")], whole=True)
    assert text == f"setting  meaning\na.b      one two three four five six\n{' ' * 9}seven eight"


@pytest.mark.parametrize("columns", [80, 3])
def test_a_narrow_last_column_stays_narrow(columns: int) -> None:
    with terminal(columns):
        text = table(("file", "size"), [("a.txt", "5 B")], right={"size"})
    assert text == "file   size\na.txt   5 B"


def test_a_file_has_every_column_and_no_cut() -> None:
    line = table(HEADERS, [(*ROW[:3], "x" * 500)], spare=("place", "spent")).splitlines()[1]
    assert line.split("  ")[1] == "local cpu"
    assert line.endswith("x" * 500)


def test_a_cell_is_one_line() -> None:
    assert len(table(("file",), [("a\nb\tc",)]).splitlines()) == 2
    assert one_line("a\nb\tc\x1b[2Jd\x07") == "a?b?cd?"


# the line that changes


@pytest.mark.parametrize(("text", "shown"), [("x" * 40, "x" * 28 + "…"), ("\x1b[2mab\x1b[0m", "\x1b[2mab\x1b[0m")])
def test_the_changing_line_stays_one_line(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    with redirect_stdout(written):
        StatusLine().show(text)
    assert written.getvalue() == f"\r\x1b[K{shown}"


def test_colours_take_no_room_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "10")
    with redirect_stdout(written):
        StatusLine().show("\x1b[32m" + "a" * 6 + "\x1b[0m" + "b" * 6)
    assert written.getvalue() == "\r\x1b[K\x1b[32m" + "a" * 6 + "\x1b[0mbb…"


# paragraphs


def test_a_paragraph_breaks_between_words_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    path = "/a-folder/" + "x" * 90
    text = "no such file or directory while reading what the job needs: " + path + " and more"
    lines = wrapped(text, 4, 2).splitlines()
    assert lines[0].startswith("    no")
    assert all(line.startswith("      ") for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == text
    assert f"      {path}" in lines


def test_rejections_are_never_cut() -> None:
    reason = "needs 900 TB of RAM, and " * 10
    rejected = {"variant": "big", "backend": "local", "offer": "cpu", "code": "ram", "reason": reason + "that is all"}
    rejected |= {"alike": [], "count": 1}
    with terminal(60):
        text = plan_text({"ladder": [], "rejected": [rejected]})
    assert " ".join(text.split()).endswith(f"big on local cpu: {reason}that is all")
    assert not text.startswith("\n")


def test_what_is_rejected_alike_is_one_line_with_its_number() -> None:
    """20,000 offers stay readable: the nearest of each kind of reason is named."""
    no = {"variant": "big", "backend": "cloud", "code": "vram", "alike": []}
    near = no | {"offer": "near", "reason": "needs 17 GB of VRAM; it has 16 GB", "count": 1}
    far = no | {"offer": "far", "reason": "needs 17 GB of VRAM; it has 8 GB", "count": 19_998}
    other = no | {"offer": "m", "code": "budget", "reason": "must reserve $3", "count": 1}
    text = plan_text({"ladder": [], "rejected": [near, far, other]})
    assert text.splitlines()[1:] == [
        "  big on cloud, 19,999 offers such as near: needs 17 GB of VRAM; it has 16 GB",
        "  big on cloud m: must reserve $3",
    ]


def test_variants_that_are_rejected_alike_share_a_line() -> None:
    no = {"backend": "cloud", "offer": "m", "code": "setup", "reason": "no key", "alike": [], "count": 2}
    text = plan_text({"ladder": [], "rejected": [no | {"variant": name} for name in ("big", "small")]})
    assert text.splitlines()[1:] == ["  big, small on cloud, 2 offers such as m: no key"]


def test_a_backend_that_could_not_be_looked_at_is_said() -> None:
    note = "cloud is left out: its prices cannot be read. Try again later."
    assert note in plan_text({"ladder": [], "rejected": [], "notes": [note]})


# the same words once


def test_evidence_that_the_summary_says_is_left_out() -> None:
    summary = "The command exited with code 7 (stderr: boom)"
    evidence = ["the command exited with code 7", "stderr: boom", "RAM was 1 GB"]
    assert new_evidence("failed", summary, evidence) == ["RAM was 1 GB"]
    assert new_evidence("succeeded", "Succeeded after 1 s", ["the command exited with code 0 after 1 s"]) == []


def test_a_failed_job_does_not_repeat_its_attempt() -> None:
    attempt = {"number": 2, "outcome": "failed", "summary": "It broke", "exit_code": 7, "signal": None}
    assert short_end("It broke", [attempt]) == "failed in attempt 2: exit code 7"
    killed = attempt | {"outcome": "disk_full", "exit_code": None}
    assert short_end("It broke", [killed]) == "failed in attempt 2: disk full"
    assert short_end("after It broke, nothing is left. Raise --budget.", [attempt]).endswith("Raise --budget.")
    assert short_end("nothing feasible", []) == "nothing feasible"


def test_a_list_says_first_how_a_job_ended() -> None:
    job = {
        "id": "job-abcde", "state": "failed", "created_at": "2026-01-01T00:00:00.000000Z", "started_at": None,
        "ended_at": None, "spent_usd": "0.00", "budget_usd": "1.00", "variant": "default", "place": "local cpu",
        "waiting": None, "summary": "The command exited with code 7 (stderr: boom)",
    }  # fmt: skip
    with terminal(72):
        head, line = list_text([job]).splitlines()
    assert head.split() == ["job", "state", "submitted", "took", "how", "it", "ended"]
    assert "  exited with code 7" in line


def test_what_is_under_way_shows_what_it_may_cost_and_not_that_it_is_free() -> None:
    attempt = {
        "number": 1, "variant": "v", "backend": "cloud", "offer": "m", "gpu": None, "state": "open", "outcome": None,
        "summary": None, "evidence": [], "exit_code": None, "signal": None, "peak_ram_bytes": None,
        "peak_vram_bytes": None, "ram_cap_bytes": None, "usd_per_hour": "5.89", "cost_usd": "0.00",
        "reserved_usd": "0.72", "provider_usd": None, "bill_expected": False, "steps": [],
    }  # fmt: skip
    job = {
        "id": "j", "state": "running", "summary": "", "spent_usd": "0.00", "budget_usd": "3.00", "priority": "cost",
        "reserved_usd": "0.72", "created_at": "2026-11-01T00:00:00", "notes": [], "plan": None, "attempts": [attempt],
    }  # fmt: skip
    assert detail_text(job).splitlines()[-1] == "  $0.72 reserved for it at $5.89/h"
    attempt |= {"state": "ended", "outcome": "succeeded", "cost_usd": "0.04"}
    assert detail_text(job).splitlines()[-1] == "  cost $0.04 of $0.72 reserved"


# what jobs write


@pytest.mark.parametrize(
    "escape",
    ["\x1b[31m", "\x1b[?25l", "\x1b[0 q", "\x1b(B", "\x1b=", "\x1b]0;title\x07", "\x1b]8;;http://a/\x1b\\", "\x1bM"],
)
def test_escape_sequences_leave_no_trace(escape: str) -> None:
    assert without_escapes(f"a{escape}b") == plain(f"a{escape}b") == "ab"


def test_every_line_end_is_one_newline() -> None:
    assert TerminalText()(b"one\r\n10%\r20%\r\nthree\r", last=True) == "one\n10%\n20%\nthree\n"


def test_what_never_ends_is_shown_at_last() -> None:
    text = TerminalText()
    assert text(b"a\xc3") == "a"
    assert text(b"", last=True) == "�"


@given(st.data())
def test_text_in_pieces_is_the_text_as_a_whole(data: st.DataObject) -> None:
    marks = st.sampled_from(["ä", "€", "\r", "\n", "\r\n", "\x1b[1;31m", "\x1b]0;t\x07", "\x1b(B", "x"])
    whole = "".join(data.draw(st.lists(marks, max_size=20))).encode()
    cut = data.draw(st.integers(0, len(whole)))
    text = TerminalText()
    assert text(whole[:cut]) + text(whole[cut:]) + text(b"", last=True) == TerminalText()(whole, last=True)


# options


@pytest.mark.parametrize("text", ["20261121", "2026-11-21", "2026-W47-6"])
def test_a_date_is_compared_as_it_is_recorded(text: str) -> None:
    assert checked_date(text) == "2026-11-21"
    assert checked_date("") == ""
