"""`gpujob backends` and `gpujob backends setup runpod`, as a user types them."""

from __future__ import annotations

import os
import pty
import select
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.credentials import Credentials
from orchestrator.home import Home
from tests.emulators.runpod import RunPodEmulator

NO_KEYRING = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
COMMAND = [sys.executable, "-m", "orchestrator.cli.main"]


@pytest.fixture
def env(tmp_path: Path, cloud: RunPodEmulator) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNPOD_")}
    return {**kept, **NO_KEYRING, "GPUJOB_HOME": str(tmp_path / "home"), "RUNPOD_API_BASE_URL": cloud.url}


def gpujob(env: dict[str, str], *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], env=env, input=given, capture_output=True, text=True, timeout=120)


def everything_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_key_is_tried_kept_for_the_user_only_and_used(env, cloud, tmp_path):
    before = gpujob(env, "backends")
    assert "set it up: gpujob backends setup runpod" in before.stdout
    done = gpujob(env, "backends", "setup", "runpod", "--key-stdin", given=cloud.key + "\n")
    assert done.returncode == 0, done
    assert "the key is accepted; the account has 0 pods" in done.stdout
    assert "balance $100.00" in done.stdout
    assert "RunPod's own limit is $80.00/h" in done.stdout
    (kept,) = (tmp_path / "home" / "credentials").iterdir()
    assert str(kept) in done.stdout
    assert kept.read_text() == cloud.key
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    after = gpujob(env, "backends")
    assert "✓ runpod: the API key is accepted" in after.stdout
    assert cloud.key not in done.stdout + done.stderr + after.stdout
    kept.unlink()
    assert cloud.key.encode() not in everything_under(tmp_path)


def test_a_key_that_is_refused_is_not_kept(env, tmp_path):
    done = gpujob(env, "backends", "setup", "runpod", "--key-stdin", given="rpa_WRONGWRONGWRONGWRONG\n")
    assert done.returncode == 2
    assert "does not accept the API key" in done.stderr
    assert "rpa_WRONG" not in done.stdout + done.stderr
    assert b"rpa_WRONG" not in everything_under(tmp_path)


@pytest.mark.parametrize("given", ["", "\n", "two words\n"])
def test_what_is_no_key_changes_nothing(env, given):
    done = gpujob(env, "backends", "setup", "runpod", "--key-stdin", given=given)
    assert done.returncode == 2
    assert "no key; nothing was changed" in done.stderr


def test_a_backend_that_needs_no_key_says_so(env):
    done = gpujob(env, "backends", "setup", "local")
    assert (done.returncode, "needs no key" in done.stderr) == (2, True)


def test_the_environment_goes_first_and_that_is_said(env, cloud):
    done = gpujob({**env, "RUNPOD_API_KEY": "rpa_OTHER"}, "backends", "setup", "runpod", "--key-stdin", given=cloud.key)
    assert "goes before the kept one" in done.stdout
    refused = gpujob({**env, "RUNPOD_API_KEY": "rpa_OTHER"}, "backends")
    assert "the API key is refused" in refused.stdout
    assert gpujob({**env, "RUNPOD_API_KEY": cloud.key}, "backends").stdout.count("✓") == 2


def test_a_key_that_is_typed_is_not_shown(env, cloud):
    """Typed at a terminal of its own, as getpass wants it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(COMMAND[0], [*COMMAND, "backends", "setup", "runpod"], env)
    shown, end = b"", time.monotonic() + 60.0
    while b"Key (not shown)" not in shown and time.monotonic() < end:
        shown += _read(terminal)
    os.write(terminal, cloud.key.encode() + b"\n")
    while (part := _read(terminal)) and time.monotonic() < end:
        shown += part
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    assert b"read and write access to pods" in shown.replace(b"\r\n", b" ")
    assert cloud.key.encode() not in shown


def _read(terminal: int) -> bytes:
    if not select.select([terminal], [], [], 60.0)[0]:
        return b""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other end is closed
        return b""


def test_with_a_keyring_nothing_is_written_but_a_note(tmp_path, monkeypatch):
    keyring = pytest.importorskip("keyring", reason="NOT TESTED: this needs the keyring package")
    from keyring.backend import KeyringBackend

    class InMemory(KeyringBackend):
        priority = 1
        held: dict[tuple[str, str], str] = {}

        def set_password(self, service, username, password):
            self.held[service, username] = password

        def get_password(self, service, username):
            return self.held.get((service, username))

        def delete_password(self, service, username):
            del self.held[service, username]

    monkeypatch.setattr(keyring, "get_password", InMemory().get_password)
    monkeypatch.setattr(keyring, "set_password", InMemory().set_password)
    home = Home(tmp_path / "home").ensure()
    credentials = Credentials(home, {})
    assert credentials.find("RUNPOD_API_KEY") is None
    assert credentials.keep("RUNPOD_API_KEY", "canary-key") == "the OS keyring"
    assert credentials.find("RUNPOD_API_KEY") == "canary-key"
    assert b"canary-key" not in everything_under(tmp_path)
    assert str(home.credentials) in credentials.keep("RUNPOD_API_KEY", "other-key", in_file=True)
    assert credentials.find("RUNPOD_API_KEY") == "other-key"
    assert Credentials(home, {"RUNPOD_API_KEY": " spaced "}).find("RUNPOD_API_KEY") == "spaced"


def test_a_key_that_only_this_terminal_has_is_known_as_such(tmp_path):
    home = Home(tmp_path / "home").ensure()
    here = Credentials(home, {"RUNPOD_API_KEY": "canary-key"})
    assert here.only_here("RUNPOD_API_KEY")
    assert not Credentials(home, {}).only_here("RUNPOD_API_KEY")
    here.keep("RUNPOD_API_KEY", "canary-key", in_file=True)
    assert not here.only_here("RUNPOD_API_KEY")
