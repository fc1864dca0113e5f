"""A person at a terminal: the question before money is spent, Ctrl-C, and a terminal that is closed."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from e2e_kit import COMMAND, PATIENCE, Gpujob, eventually
from test_running import begun, open_gate, waiting

OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes standard input the terminal that Ctrl-C comes from, then becomes the command."""


class Terminal:
    """A command on a terminal of its own; ``seen`` is everything that it showed."""

    def __init__(self, user: Gpujob, *typed: str, **env: str) -> None:
        self.seen = ""
        self._screen, line = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *COMMAND, *typed], cwd=user.cwd,
            env=user.environment(TERM="xterm", **env), stdin=line, stdout=line, stderr=line, start_new_session=True,
        )  # fmt: skip
        os.close(line)

    def until(self, words: str) -> str:
        end = time.monotonic() + PATIENCE
        while words not in self.seen:
            assert time.monotonic() < end, f"never shown: {words!r} in {self.seen!r}"
            assert self._read(), f"ended without {words!r}: {self.seen!r}"
        return self.seen

    def press(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def end(self) -> int:
        """The exit code, once everything is shown."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Close the window: the kernel sends SIGHUP."""
        if self._screen >= 0:
            os.close(self._screen)
            self._screen = -1

    def _read(self) -> bool:
        if not select.select([self._screen], [], [], 0.2)[0]:
            return True
        try:
            data = os.read(self._screen, 65536)
        except OSError:  # Linux says so when the other end is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def terminal(user: Gpujob) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*typed: str, **env: str) -> Terminal:
        opened.append(Terminal(user, *typed, **env))
        return opened[-1]

    yield start
    for each in opened:
        each.close()
        each.process.kill()
        each.process.wait()


CTRL_C = "\x03"
ASKED = "[g]o on watching? [d] "


@pytest.fixture
def priced(user: Gpujob) -> str:
    """A job on a machine that costs money."""
    user.run("config", "set", "local.price_per_hour", "1")
    return user.job("true", "duration: {on: cpu, minutes: 6}", "limits: {runtime: 15m}")


@pytest.mark.parametrize(("answer", "code", "count"), [("n\r", 130, 0), ("\r", 130, 0), ("y\r", 0, 1)])
def test_money_is_spent_only_after_a_yes(
    user: Gpujob, terminal: Callable[..., Terminal], priced: str, answer: str, code: int, count: int
) -> None:
    screen = terminal("submit", priced, "--budget", "2")
    shown = screen.until("[y/N] ")
    assert "Spend about $0.11, at worst $0.33" in shown
    assert shown.count("[y/N]") == 1
    screen.press(answer)
    assert screen.end() == code, screen.seen
    assert screen.seen.count("[y/N]") == 1
    assert len(user.jobs()) == count


def test_yes_is_not_asked(user: Gpujob, terminal: Callable[..., Terminal], priced: str) -> None:
    screen = terminal("submit", priced, "--budget", "2", "--yes")
    assert screen.end() == 0, screen.seen
    assert "[y/N]" not in screen.seen


def test_what_is_free_is_not_asked_about(user: Gpujob, terminal: Callable[..., Terminal]) -> None:
    screen = terminal("submit", user.job("true"), "--budget", "0")
    assert screen.end() == 0, screen.seen
    assert "[y/N]" not in screen.seen
    assert "\x1b[1m" in screen.seen


def test_colours_can_be_refused(user: Gpujob, terminal: Callable[..., Terminal]) -> None:
    screen = terminal("doctor", NO_COLOR="1")
    screen.end()
    assert "memory cap" in screen.seen
    assert "\x1b[1m" not in screen.seen


@pytest.mark.parametrize("key", ["d\r", "\r"])
def test_ctrl_c_and_detach_leave_the_job_running(user: Gpujob, terminal: Callable[..., Terminal], key: str) -> None:
    screen = terminal("submit", waiting(user), "--budget", "0")
    job = begun(user)
    screen.press(CTRL_C)
    screen.until(ASKED)
    screen.press(key)
    assert screen.end() == 0, screen.seen
    assert "Detached" in screen.seen
    assert user.show(job)["state"] == "running"
    open_gate(user)
    assert user.ended(job)["state"] == "succeeded"


def test_ctrl_c_and_cancel_end_the_job(user: Gpujob, terminal: Callable[..., Terminal]) -> None:
    screen = terminal("submit", waiting(user), "--budget", "0")
    job = begun(user)
    screen.press(CTRL_C)
    screen.until(ASKED)
    screen.press("what?\rc\r")
    assert screen.end() == 130, screen.seen
    assert user.show(job)["state"] == "cancelled"


def test_ctrl_c_and_go_on_keep_watching(user: Gpujob, terminal: Callable[..., Terminal]) -> None:
    screen = terminal("submit", waiting(user), "--budget", "0")
    begun(user)
    screen.press(CTRL_C)
    screen.until(ASKED)
    screen.press("g\r")
    open_gate(user)
    assert screen.end() == 0, screen.seen
    assert "succeeded" in screen.seen.partition(ASKED)[2]


def test_a_closed_terminal_does_not_stop_the_job(user: Gpujob, terminal: Callable[..., Terminal]) -> None:
    screen = terminal("submit", waiting(user), "--budget", "0")
    job = begun(user)
    screen.close()
    os.killpg(screen.process.pid, signal.SIGHUP)
    assert screen.process.wait(PATIENCE) != 0
    assert user.show(job)["state"] == "running"
    open_gate(user)
    assert user.ended(job)["state"] == "succeeded"


def test_a_list_of_jobs_fits_a_terminal(user: Gpujob, terminal: Callable[..., Terminal]) -> None:
    user.submit(user.job("true", name="a-name-as-people-give"))
    for typed in (["ls"], ["report"]):
        screen = terminal(*typed, COLUMNS="80", NO_COLOR="1")
        assert screen.end() == 0
        lines = [line for line in screen.seen.splitlines() if line]
        assert len(lines) >= 2
        assert max(map(len, lines)) <= 80


def test_a_plan_fits_a_narrow_terminal(user: Gpujob, terminal: Callable[..., Terminal]) -> None:
    screen = terminal("plan", user.job("true"), "--budget", "1", COLUMNS="20")
    assert screen.end() == 0
    eventually(lambda: "default" in screen.seen, "the plan")
