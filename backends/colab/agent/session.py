"""The agent's life: it shows itself in the mailbox, takes one job after the other, and ends when told, or idle.

Who runs what is decided at home, where each job has one worker: a claim names one agent, and an agent takes one claim
at a time. An agent lives by its heartbeat: whoever has not renewed it for LEASE_SECONDS ends its run by itself, and
only some time after that is it counted as gone at home. So no job runs twice, whoever sleeps or hangs.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from backends.colab.agent.drive import Absent, Drive, DriveError, Refused, checked_api
from backends.colab.agent.hardware import seen
from backends.colab.agent.lease import LeaseWork, still_there

PROTOCOL = 1
MAILBOX = "gpujob-mailbox"
LEASE_SECONDS = 120.0
BEAT_SECONDS = 15.0
IDLE_SECONDS = 1800.0
"""An agent without work for so long ends, and with it the runtime: a paid one costs units, a free one quota."""
MAILBOX_SECONDS = 60.0
"""A mailbox that was made just now may not show yet."""
TURN_SECONDS, IDLE_TURN_SECONDS = 2.0, 4.0


def now() -> float:
    """Seconds that also pass while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Session:
    """One notebook's agent. ``pace`` shortens its pauses, for tests; never its lease."""

    def __init__(self, token: dict[str, Any], pace: float = 1.0) -> None:
        api = checked_api()
        self._token, self._pace = token, pace
        self._drive, self._beating = Drive(token, api), Drive(token, api, sleep=self._beat_sleep)
        self.id = secrets.token_hex(4)
        self._root = Path(tempfile.mkdtemp(prefix="gpujob-"))
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._why = ""
        self._mailbox = ""
        self._shown: dict[str, Any] = {}
        self._beats = 0
        self._renewed = self._worked = now()
        self._work: LeaseWork | None = None
        self._claim: dict[str, Any] = {}
        self._refused: dict[str, str] = {}
        self._seen: dict[str, tuple[str | None, dict[str, Any]]] = {}

    def run(self) -> None:
        """Until told to end, idle for long, or without access (Refused)."""
        self._find_mailbox()
        self._shown = seen(self._root) | {
            "id": self.id,
            "root": str(self._root),
            "protocol": PROTOCOL,
            "started_at": time.time(),
        }
        self._beat()
        say(f"agent {self.id}: {_described(self._shown)}; waiting for jobs")
        beater = threading.Thread(target=self._keep_beating, daemon=True)
        beater.start()
        try:
            while not self._over.is_set():
                self._guarded_turn()
                self._over.wait((TURN_SECONDS if self._work else IDLE_TURN_SECONDS) * self._pace)
        finally:
            self._leave()
        if self._why:
            raise Refused(self._why)

    def stop(self, *_: Any) -> None:
        """End soon."""
        self._over.set()

    # --- beating ---

    def _find_mailbox(self) -> None:
        end = now() + MAILBOX_SECONDS * self._pace
        while (found := self._drive.folder(MAILBOX)) is None:
            if now() > end or self._over.wait(IDLE_TURN_SECONDS * self._pace):
                raise Refused(
                    "There is no mailbox on this Drive that this token can see. Is it the token of the same gpujob "
                    "(`gpujob colab token`) and Google account? A token of another OAuth client sees nothing of it."
                )
        self._mailbox = found

    def _beat_sleep(self, seconds: float) -> None:
        self._over.wait(seconds)

    def _keep_beating(self) -> None:
        while not self._over.wait(BEAT_SECONDS * self._pace):
            try:
                self._beat()
            except Refused as error:
                self._why = str(error)
                self._over.set()
            except (DriveError, OSError) as error:
                say(f"Drive has trouble: {error}")
            if now() - self._renewed > LEASE_SECONDS:
                self._fence()

    def _beat(self, ended: str = "") -> None:
        """Renew the heartbeat. What counts is when it was begun: home counts from when Drive had it."""
        with self._lock:
            asked, self._beats = now(), self._beats + 1
            mine = {
                "beats": self._beats, "lease": self._claim.get("key"), "nonce": self._claim.get("nonce"),
                "refused": self._refused, "ended": ended, "lease_seconds": LEASE_SECONDS,
            }  # fmt: skip
            self._beating.write(self._mailbox, f"agent-{self.id}.json", json.dumps(self._shown | mine).encode())
            self._renewed = asked

    def _fence(self) -> None:
        """Nobody has heard of us for too long: home may count us as gone, so the run must not go on."""
        if work := self._work:
            say("Drive could not be reached for too long; the run is ended, as another session may take the job")
            work.kill("lease lost")
            self._claim = {"fenced": self._claim.get("nonce")}

    # --- working ---

    def _guarded_turn(self) -> None:
        try:
            self._turn()
        except Refused as error:
            self._why = str(error)
            self._over.set()
        except Absent as error:
            if not self._claim.get("folder") or still_there(self._drive, self._claim["folder"]):
                say(f"Drive has trouble: {error}")
            else:
                self._drop("the job was taken back")
        except DriveError as error:
            say(f"Drive has trouble: {error}")

    def _turn(self) -> None:
        files = self._drive.files(self._mailbox)
        if f"end-{self.id}" in files:
            say("told to end")
            self._over.set()
            return
        if self._work is None:
            self._look_for_work(files)
        elif "fenced" in self._claim:
            self._drop("the lease was lost")
        elif time.time() > self._claim["ends_at"] or not still_there(self._drive, self._claim["folder"]):
            self._drop("the job is over")
        else:
            self._work.turn()
            self._worked = now()
        if self._work is None and now() - self._worked > IDLE_SECONDS:
            say("no job for a while")
            self._over.set()

    def _look_for_work(self, files: dict[str, dict[str, Any]]) -> None:
        for name in sorted(files):
            if not name.startswith("claim-"):
                continue
            claim = self._read_claim(name, files[name])
            if claim.get("agent") != self.id or claim["nonce"] in self._refused:
                continue
            if why := self._why_not(claim):
                self._refused[claim["nonce"]] = why
                say(f"refused {claim['key']}: {why}")
                self._beat()
            elif still_there(self._drive, claim["folder"]):
                self._take(claim)
                return

    def _read_claim(self, name: str, file: dict[str, Any]) -> dict[str, Any]:
        """The claim; read again only when it has changed."""
        version = file.get("md5Checksum")
        if self._seen.get(name, (None, {}))[0] != version:
            self._seen[name] = (version, json.loads(self._drive.read(file)))
        return self._seen[name][1]

    def _why_not(self, claim: dict[str, Any]) -> str:
        """Why that claim does not fit what is here now, in numbers; empty where it does."""
        if time.time() > claim["ends_at"]:
            return "its time was over when it arrived"
        found = seen(self._root)
        for name, what in (("vram_bytes", "GPU memory"), ("ram_bytes", "RAM"), ("disk_bytes", "free disk")):
            if found[name] < claim["needs"][name]:
                return f"{found[name] / 1e9:.1f} GB of {what} here, {claim['needs'][name] / 1e9:.1f} GB needed"
        return ""

    def _take(self, claim: dict[str, Any]) -> None:
        self._claim = claim
        root = self._root / claim["key"]
        self._work = LeaseWork(self._drive, claim["folder"], root, self._token["refresh_token"], claim["nonce"])
        self._beat()
        say(f"took {claim['key']}")

    def _drop(self, why: str) -> None:
        if self._work is None:
            return
        say(f"{self._claim.get('key', 'the job')}: {why}")
        self._work.end(why)
        self._work, self._claim, self._worked = None, {}, now()
        self._beat()

    def _leave(self) -> None:
        """End what runs and say so, as far as Drive still listens."""
        self._over.set()
        if self._work:
            self._work.end("the session ends")
            self._work, self._claim = None, {}
        try:
            self._beat(ended=self._why or "ended")
        except (DriveError, OSError):
            return


def _described(hardware: dict[str, Any]) -> str:
    gpu = f"{hardware['gpu']} with {hardware['vram_bytes'] / 1e9:.1f} GB" if hardware["gpu"] else "no GPU"
    return f"{gpu}, {hardware['ram_bytes'] / 1e9:.1f} GB of RAM, {hardware['disk_bytes'] / 1e9:.0f} GB of free disk"


def say(text: str) -> None:
    """A line for whoever looks at the notebook."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> int:
    """The token comes over standard input. Exit codes: 0 ended as it should, 1 not, with the reason said."""
    try:
        session = Session(json.loads(sys.stdin.readline()), float(os.environ.get("GPUJOB_AGENT_PACE", "1")))
        told: SimpleQueue[int] = SimpleQueue()  # a handler must take no lock that the thread it interrupts may hold
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: told.put(number))
        threading.Thread(target=lambda: session.stop(told.get()), daemon=True).start()
        session.run()
    except Refused as error:
        say(f"gpujob cannot go on: {error}")
        return 1
    except (DriveError, OSError) as error:
        say(f"gpujob cannot go on: {error}. Press Run all again.")
        return 1
    return 0
