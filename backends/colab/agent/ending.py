"""Ending the runtime from inside, by the address that Colab gives to every kernel (as google.colab.runtime does it)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ADDRESS = "TBE_RUNTIME_ADDR"
"""What Colab calls the variable with the host and port of the service that takes a runtime back."""
REPLY_SECONDS = 30.0
LOOK_SECONDS = 15.0
FORGOTTEN_SECONDS = 1800.0
"""A runtime that nobody has asked anything for so long, and on which no run was ever started, ends itself."""


def lasting_clock() -> float:
    """Seconds that nobody can set."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def unassign(address: str) -> bool:
    """Ask Colab to take this runtime back; whether it says that it does."""
    request = urllib.request.Request(f"http://{address}/unassign", data=b"", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=REPLY_SECONDS) as reply:
            return int(reply.status) == 200
    except OSError:
        return False


class Guard:
    """Ends the runtime when its time is over, whoever is asleep: a process of its own from the first contact on.

    ``desk`` is the folder that it shares with the desk: ``guard.json`` says until when, ``asked`` when last somebody
    asked, ``started`` that a runner has taken over (it has a watchdog of its own, and this one stays beside it).
    """

    def __init__(self, desk: Path) -> None:
        self._desk = desk
        self._plan = desk / "guard.json"

    def set(self, seconds: float, address: str) -> None:
        """``seconds`` from now it must end; a time that was set before and is earlier stays."""
        until = min(lasting_clock() + seconds, float(self.read().get("until", "inf")))
        draft = self._plan.with_name(f"guard.{os.getpid()}")
        draft.write_text(json.dumps({"until": until, "address": address}), encoding="utf-8")
        draft.replace(self._plan)

    def read(self) -> dict[str, float | str]:
        """What was set; nothing before."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(self._plan.read_text(encoding="utf-8")))
        return {}

    def launch(self) -> None:
        """Start the process, unless it is there."""
        with (self._desk / "guard.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
        command = [sys.executable, "-I", "-S", str(Path(__file__)), "guard", str(self._desk)]
        quiet = subprocess.DEVNULL
        subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, cwd="/")

    def watch(self) -> None:
        """Until the runtime is gone, and this process with it."""
        with (self._desk / "guard.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            while self._desk.is_dir():
                plan = self.read()
                left = float(plan["until"]) - lasting_clock()
                if left <= 0 or self._forgotten():
                    unassign(str(plan["address"]))
                time.sleep(min(LOOK_SECONDS, max(left, 1.0)))

    def _forgotten(self) -> bool:
        if (self._desk / "started").exists():
            return False
        with contextlib.suppress(OSError):
            return time.time() - (self._desk / "asked").stat().st_mtime > FORGOTTEN_SECONDS
        return False


def main(words: list[str]) -> int:
    """``stop DESK`` asks once, for the runner's watchdog; ``guard DESK`` stays. Exit code 0 where Colab agreed."""
    verb, desk = words[0], Path(words[1])
    if verb == "guard":
        Guard(desk).watch()
        return 0
    return 0 if unassign(str(Guard(desk).read()["address"])) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
