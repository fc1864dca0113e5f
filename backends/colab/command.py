"""Running Google's command line `colab` (the package google-colab-cli), found on PATH.

Each runtime of ours has notes of its own (``--config``), apart from the user's and from each other: a stale list makes
the command drop what it has noted, and it writes its notes in place. A runtime is asked for by a process that outlives
this one, so that a worker that is killed meanwhile loses nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.base import AuthError, Transient
from backends.colab.command_words import (
    Listed,
    Said,
    Usage,
    is_unknown_to_it,
    read_sessions,
    read_usage,
    read_version,
    trouble,
)
from backends.recent import Recent

INSTALL = "pip install google-colab-cli (Python 3.12 or newer, on Linux or macOS)"
COMMAND_SECONDS = 120.0
NEW_SECONDS = 900.0
"""Asking for a runtime: version 0.7.5 asks four times by itself, with pauses."""
TRANSFER_SECONDS = 600.0
EXEC_SECONDS = 60.0
"""Given as --timeout: without it the command is cut off after 30 s of silence."""
LISTING_SECONDS, USAGE_SECONDS = 5.0, 60.0
HANDED_DOWN = ("PATH", "HOME", "USER", "TMPDIR", "LANG", "GOOGLE_APPLICATION_CREDENTIALS")
HANDED_DOWN_PREFIXES = ("COLAB_", "CLOUDSDK_", "XDG_", "SSL_CERT", "REQUESTS_CA", "HTTP_PROXY", "HTTPS_PROXY", "http")
"""All that the command gets of our environment, which may hold secrets of jobs."""

_NEW = """cd /
{ "$@" >"$0/out" 2>"$0/err"; echo $? >"$0/code.part"; mv "$0/code.part" "$0/code"; } </dev/null &
echo $! >"$0/pid"
"""
"""Started apart, its end noted beside what it said."""


class Command:
    """The command of one home. Threads and processes may share it."""

    def __init__(self, root: Path, words: str) -> None:
        self._root = root
        self._words = shlex.split(words) or ["colab"]
        self._listing: Recent[dict[str, Listed]] = Recent(LISTING_SECONDS, time.monotonic)
        self._usage: Recent[Usage | None] = Recent(USAGE_SECONDS, time.monotonic)
        self._version: Recent[str] = Recent(float("inf"), time.monotonic)

    @property
    def found(self) -> bool:
        """Whether it is installed."""
        return shutil.which(self._words[0]) is not None

    @property
    def version(self) -> str:
        """As it tells it, such as 0.7.5."""
        return self._version.get(lambda: read_version(self._run("", "version")))

    # --- the account ---

    def sessions(self, *, fresh: bool = False) -> dict[str, Listed]:
        """Every runtime of the account by endpoint; the list may lag behind."""

        def read() -> dict[str, Listed]:
            return read_sessions(self._done("list the runtimes", "", "sessions"))

        return self._listing.fresh(read) if fresh else self._listing.get(read)

    def usage(self) -> Usage | None:
        """The balance; None where the installed version cannot tell it."""

        def read() -> Usage | None:
            said = self._run("", "usage")
            if is_unknown_to_it(said):
                return None
            if said.code:
                raise trouble("read the balance", said)
            return read_usage(said)

        return self._usage.get(read)

    # --- runtimes ---

    def begin(self, name: str, gpu: str) -> None:
        """Ask for a runtime, unless that is under way or done; :meth:`begun` says how it went."""
        place = self._asking(name)
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (place / "pid").exists():
                return
            kind = ["--gpu", gpu] if gpu else []
            subprocess.run(
                ["sh", "-c", _NEW, str(place), *self._typed(name, "new", "-s", name, *kind)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=_environment(), start_new_session=True, check=False,
            )  # fmt: skip

    def begun(self, name: str) -> bool:
        """Whether a runtime of that name was asked for and what came of it was not yet taken note of."""
        return self._asking(name).is_dir()

    def asked(self, name: str, patience: float = NEW_SECONDS) -> Said:
        """How asking ended. Raises Transient while it goes on; code -1 where its process was killed."""
        place, end = self._asking(name), time.monotonic() + patience
        while not (place / "code").exists():
            if not _is_alive(place / "pid"):
                time.sleep(0.5)  # between its last two commands
                if not (place / "code").exists():
                    return Said(-1, _text(place / "out"), _text(place / "err"))
            if time.monotonic() > end:
                raise Transient(f"`colab new` is still at work after {patience:.0f} s")
            time.sleep(0.1)
        return Said(int(_text(place / "code") or 1), _text(place / "out"), _text(place / "err"))

    def asked_since(self, name: str) -> float:
        """Seconds since asking ended; 0 while its end is not noted, as after a power cut."""
        with suppress(OSError):
            return time.time() - (self._asking(name) / "code").stat().st_mtime
        (self._asking(name) / "code").write_text("-1")
        return 0.0

    def forget_asking(self, name: str) -> None:
        """What came of it is noted elsewhere, or it may be done again."""
        shutil.rmtree(self._asking(name), ignore_errors=True)

    def stop(self, name: str) -> bool:
        """Give a runtime back; whether the command has told Google so. It may still be listed for a while."""
        said = self._done("stop the runtime", name, "stop", "-s", name)
        return "Session terminated" in said.out

    # --- its notes ---

    def names(self) -> list[str]:
        """Every runtime of which there are notes."""
        return sorted(path.stem for path in self._notes("x").parent.glob("*.json"))

    def endpoint(self, name: str) -> str:
        """What Google calls the runtime, as the command or we have noted it; empty where nobody has."""
        for path in (self._notes(name), self._copy(name)):
            with suppress(OSError, ValueError, LookupError, TypeError):
                return str(json.loads(path.read_text(encoding="utf-8"))[name]["endpoint"])
        return ""

    def keep(self, name: str) -> None:
        """Keep a copy of the command's notes, for :meth:`remind`."""
        if self._notes(name).exists():
            _write_privately(self._copy(name), self._notes(name).read_text(encoding="utf-8"))

    def remind(self, name: str, endpoint: str) -> None:
        """Tell the command of a runtime that it has dropped, or never heard of. Without a token it gets a new one."""
        with suppress(OSError, ValueError):
            if name in json.loads(self._notes(name).read_text(encoding="utf-8")):
                return
        entry = {"name": name, "token": "", "url": "", "endpoint": endpoint}
        text = self._copy(name).read_text() if self._copy(name).exists() else json.dumps({name: entry})
        _write_privately(self._notes(name), text)

    def forget_notes(self, name: str) -> None:
        """Drop the command's notes of it, and our copy."""
        for path in (self._copy(name), self._notes(name)):
            path.unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Drop everything about it."""
        self.forget_notes(name)
        self.forget_asking(name)

    # --- in a runtime ---

    def execute(self, name: str, code: str) -> str:
        """What ``code`` prints there, run by the runtime's kernel. No secrets in it: the command keeps what it ran."""
        words = ("exec", "-s", name, "--timeout", f"{EXEC_SECONDS:.0f}")
        return self._done("run something there", name, *words, given=code).out

    def upload(self, name: str, data: bytes, path: str) -> None:
        """Write a file there. The bytes are handed over in a file that has no name on this disk, and vanish with it."""
        with tempfile.TemporaryFile(dir=self._root) as file:
            file.write(data)
            file.flush()
            words = ("upload", "-s", name, f"/dev/fd/{file.fileno()}", path)
            self._done(f"send {path}", name, *words, patience=TRANSFER_SECONDS, keep=(file.fileno(),))

    def download(self, name: str, path: str, dest: Path) -> None:
        """Fetch a file from there."""
        words = ("download", "-s", name, path, str(dest))
        self._done(f"fetch {path}", name, *words, patience=TRANSFER_SECONDS)

    # --- within ---

    def _done(self, doing: str, name: str, *words: str, **how: Any) -> Said:
        said = self._run(name, *words, **how)
        if said.code:
            raise trouble(doing, said)
        return said

    def _run(
        self, name: str, *words: str, given: str = "", patience: float = COMMAND_SECONDS, keep: tuple[int, ...] = ()
    ) -> Said:
        typed = self._typed(name, *words)
        try:
            done = subprocess.run(
                typed, input=given, capture_output=True, text=True, errors="replace", env=_environment(),
                timeout=patience, check=False, pass_fds=keep, cwd="/",
            )  # fmt: skip
        except FileNotFoundError as error:
            raise AuthError(f"Google's command `{self._words[0]}` is not on PATH", advice=INSTALL) from error
        except subprocess.TimeoutExpired as error:
            raise Transient(f"`colab {words[0]}` did not end within {patience:.0f} s") from error
        except OSError as error:
            raise Transient(f"`colab {words[0]}` cannot be run: {error}") from error
        return Said(done.returncode, done.stdout, done.stderr)

    def _typed(self, name: str, *words: str) -> list[str]:
        """With the notes of the runtime ``name``; with none, for what is about no runtime."""
        notes = self._notes(name) if name else self._root / "account.json"
        notes.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [*self._words, "--config", str(notes), *words]

    def _notes(self, name: str) -> Path:
        return self._root / "runtimes" / f"{name}.json"

    def _copy(self, name: str) -> Path:
        return self._root / "copies" / f"{name}.json"

    def _asking(self, name: str) -> Path:
        return self._root / "asking" / name


def _write_privately(path: Path, text: str) -> None:
    """In one step, for nobody else to read: the notes hold a key to the runtime."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in HANDED_DOWN or name.startswith(HANDED_DOWN_PREFIXES)
    }
    return kept | {"TERM": "dumb", "COLUMNS": "200"}


def _is_alive(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text()), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
