"""A real SSH server of our own on 127.0.0.1: its own keys, configuration and authorized_keys, in a folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backends.channels.ssh_connection import SshAddress

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
USER = pwd.getpwuid(os.getuid()).pw_name

CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserEnvironment no
MaxStartups 100
Subsystem sftp internal-sftp
{more}
"""


class Sshd:
    """The server. Its folder also has room for what tests keep on "the machine"."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.more = more
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.new_host_key()
        (folder / "authorized_keys").touch(mode=0o600)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> SshAddress:
        return SshAddress("127.0.0.1", self.port, USER)

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def new_host_key(self, kind: str = "ed25519") -> None:
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink(missing_ok=True)
        key = self.folder / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)

    def allow(self, public: str) -> None:
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(public + "\n")

    def start(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(CONFIG.format(port=self.port, folder=self.folder, more=self.more))
        assert SSHD
        command = [SSHD, "-D", "-E", self.folder / "sshd.log", "-f", config]
        self._process = subprocess.Popen(command, start_new_session=True)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise AssertionError((self.folder / "sshd.log").read_text())
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("sshd does not listen")

    def stop(self) -> None:
        """End the server and every connection; what was started detached lives on."""
        if self._process:
            for pid in [*sessions(self._process.pid), self._process.pid]:
                _kill(pid)
            self._process.wait()
            self._process = None


def sessions(server: int) -> list[int]:
    """The server's children and theirs that are sshd: one or two per connection."""
    found: list[int] = []
    for child in _children(server):
        if _name(child).startswith("sshd"):
            found += [child, *sessions(child)]
    return found


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_sshd(folder: Path, more: str = "") -> Iterator[Sshd]:
    server = Sshd(folder, more)
    server.start()
    try:
        yield server
    finally:
        server.stop()
