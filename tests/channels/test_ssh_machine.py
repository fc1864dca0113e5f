"""What only SSH has: first contact, keys that change, connections that break, and runs that do not care."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from channels_kit import content, silent

from backends.base import AuthError, Lost, NotYetReady, Rejected, RunPhase, Transient
from backends.channels import ssh, ssh_connection
from backends.channels.ssh import SshMachine
from backends.channels.ssh_connection import SshAddress, hang_up
from backends.channels.ssh_keys import HostKeys, Identity, identity
from tests.emulators.faultproxy import FaultProxy
from tests.emulators.sshd import USER, Sshd, free_port, running_sshd
from tests.runner.runner_kit import Job, eventually, python38

PIN = "pod-1 started 2026"


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    yield
    hang_up(PIN)


@pytest.fixture
def machine_at(shared_identity: Identity, host_keys: HostKeys, root: Path) -> Callable[..., SshMachine]:
    """Makes the machine behind a port."""

    def make(port: int, keys: Identity = shared_identity, **given: str) -> SshMachine:
        return SshMachine(SshAddress("127.0.0.1", port, USER), keys, host_keys, PIN, str(root), **given)

    return make


@pytest.fixture
def proxy(shared_sshd: Sshd) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", shared_sshd.port)) as made:
        yield made


class TestFirstContact:
    def test_nobody_listens_yet_and_later_no_more(self, sshd: Sshd, machine_at: Callable[..., SshMachine]) -> None:
        sshd.stop()
        machine = machine_at(sshd.port)
        with pytest.raises(NotYetReady, match="cannot be reached"):
            machine.reach()
        sshd.start()
        machine.reach()
        sshd.stop()
        eventually(lambda: isinstance(error_of(machine.reach), Transient), "noticing that it is gone")

    def test_a_name_that_is_none(self, shared_identity: Identity, host_keys: HostKeys) -> None:
        machine = SshMachine(SshAddress("no.such.host.invalid", 22), shared_identity, host_keys, PIN, "/root/jobs")
        with pytest.raises(NotYetReady, match=r"no\.such\.host\.invalid"):
            machine.reach()

    @pytest.mark.parametrize(
        "banner", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 5000, b"SSH-2.0-x\r\n" + b"\xff" * 999]
    )
    def test_something_else_listens(self, machine_at: Callable[..., SshMachine], banner: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=answer_with, args=(server, banner), daemon=True).start()
            with pytest.raises(NotYetReady):
                machine_at(server.getsockname()[1]).reach()

    def test_a_server_that_says_nothing(
        self, machine_at: Callable[..., SshMachine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ssh_connection, "CONNECT_TIMEOUT", 2.0)
        with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(NotYetReady):
            machine_at(server.getsockname()[1]).reach()

    def test_our_key_is_not_there_yet_then_is_then_was(
        self, sshd: Sshd, machine_at: Callable[..., SshMachine], tmp_path: Path, host_keys: HostKeys
    ) -> None:
        keys = identity(tmp_path / "own")
        machine = machine_at(sshd.port, keys)
        with pytest.raises(NotYetReady, match="does not let us in yet"):
            machine.reach()
        assert host_keys.pinned(PIN) is None
        sshd.allow(keys.public)
        machine.reach()
        (sshd.folder / "authorized_keys").write_text("")
        hang_up(PIN)
        with pytest.raises(AuthError, match="let us in before"):
            machine_at(sshd.port, keys).reach()

    def test_ciphers_that_are_no_longer_safe(
        self, tmp_path: Path, shared_sshd: Sshd, machine_at: Callable[..., SshMachine]
    ) -> None:
        old = running_sshd(tmp_path / "old", "Ciphers aes128-cbc,3des-cbc")
        with old as server, pytest.raises(Rejected, match="no longer safe"):
            machine_at(server.port).reach()


class TestHostKey:
    def test_a_change_is_refused(
        self, sshd: Sshd, machine_at: Callable[..., SshMachine], host_keys: HostKeys, root: Path
    ) -> None:
        machine_at(sshd.port).reach()
        sshd.stop()
        sshd.new_host_key()
        sshd.start()
        hang_up(PIN)
        machine = machine_at(sshd.port)
        for call in (machine.reach, lambda: machine.start("job", {"TOKEN": "canary"}), lambda: machine.status("job")):
            with pytest.raises(Rejected, match="has changed"):
                call()
        assert (sshd.folder / "sshd.log").read_text().count("Accepted publickey") == 1
        host_keys.forget(PIN)
        machine.reach()

    def test_of_another_kind_is_no_match_either(self, sshd: Sshd, machine_at: Callable[..., SshMachine]) -> None:
        machine_at(sshd.port).reach()
        sshd.stop()
        sshd.new_host_key("rsa")
        sshd.start()
        hang_up(PIN)
        with pytest.raises(Rejected, match="was replaced, or somebody stands in between"):
            machine_at(sshd.port).reach()

    def test_rsa_is_pinned_too(self, sshd: Sshd, machine_at: Callable[..., SshMachine], host_keys: HostKeys) -> None:
        sshd.stop()
        sshd.new_host_key("rsa")
        sshd.start()
        for _ in range(2):
            machine_at(sshd.port).reach()
            hang_up(PIN)
        assert str(host_keys.pinned(PIN)).startswith("ssh-rsa ")


class TestWhatTheMachineHas:
    @pytest.mark.parametrize(("python", "lack"), [(None, "no python3"), ("#!/bin/sh\nexit 114\n", "older than 3.8")])
    def test_no_python_or_an_old_one(
        self, shared_sshd: Sshd, machine_at: Callable[..., SshMachine], tmp_path: Path, python: str | None, lack: str
    ) -> None:
        (tmp_path / "bin").mkdir()
        if python:
            (tmp_path / "bin" / "python3").write_text(python)
            (tmp_path / "bin" / "python3").chmod(0o755)
        (tmp_path / "profile").write_text(f"export PATH={tmp_path}/bin\n")
        with pytest.raises(Rejected, match=lack) as error:
            machine_at(shared_sshd.port, profile=str(tmp_path / "profile")).reach()
        assert "3.8" in error.value.advice

    @pytest.mark.parametrize(
        "text", ['export A="unfinished', "exit 7\n", "return 7\n", "echo noise; echo noise >&2\n", None]
    )
    def test_a_strange_profile_is_no_trouble(
        self, shared_sshd: Sshd, machine_at: Callable[..., SshMachine], tmp_path: Path, text: str | None
    ) -> None:
        if text is not None:
            (tmp_path / "it's a profile").write_text(text)
        machine = machine_at(shared_sshd.port, profile=str(tmp_path / "it's a profile"))
        machine.reach()
        assert machine.status("job").phase is RunPhase.ABSENT
        assert machine.read("job/stdout.log", 0) == b""

    def test_the_oldest_python_that_will_do(
        self, shared_sshd: Sshd, machine_at: Callable[..., SshMachine], root: Path, tmp_path: Path
    ) -> None:
        python = python38()
        if python is None:
            pytest.skip("NOT TESTED: there is no Python 3.8 here")
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python3").symlink_to(python)
        (tmp_path / "profile").write_text(f"export PATH={tmp_path}/bin:$PATH\n")
        machine = machine_at(shared_sshd.port, profile=str(tmp_path / "profile"))
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "big").write_bytes(os.urandom(1_000_000))
        machine.push(tmp_path / "tree", "job", silent)
        assert machine.pull("job", tmp_path / "home", silent)
        assert content(root / "job") == content(tmp_path / "home") == content(tmp_path / "tree")
        assert machine.read("job/big", 999_999) == (tmp_path / "tree" / "big").read_bytes()[-1:]

    def test_a_shell_that_greets(
        self, tmp_path: Path, shared_identity: Identity, machine_at: Callable[..., SshMachine]
    ) -> None:
        greet = 'ForceCommand echo "Welcome!"; echo "and mind the gap" >&2; eval "$SSH_ORIGINAL_COMMAND"'
        with running_sshd(tmp_path / "greeting", greet) as server:
            server.allow(shared_identity.public)
            machine = machine_at(server.port)
            machine.reach()
            assert machine.status("job").phase is RunPhase.ABSENT
            assert machine.read("job/stdout.log", 0) == b""

    def test_an_account_that_runs_nothing(
        self, tmp_path: Path, shared_identity: Identity, machine_at: Callable[..., SshMachine]
    ) -> None:
        refuse = "ForceCommand echo 'Please login as the user ubuntu rather than root.'; exit 142"
        with running_sshd(tmp_path / "refusing", refuse) as server:
            server.allow(shared_identity.public)
            with pytest.raises(Transient, match="Please login as the user ubuntu"):
                machine_at(server.port).reach()

    def test_tools_that_went_away_are_carried_there_again(
        self, shared_sshd: Sshd, machine_at: Callable[..., SshMachine], root: Path
    ) -> None:
        machine = machine_at(shared_sshd.port)
        for call in (lambda: machine.status("job"), lambda: machine.read("job/log", 0)):
            for path in root.rglob(".gpujob/**/*.py"):
                path.unlink()
            call()

    def test_a_machine_whose_sessions_are_used_up(
        self, tmp_path: Path, shared_identity: Identity, machine_at: Callable[..., SshMachine]
    ) -> None:
        with running_sshd(tmp_path / "few", "MaxSessions 0") as server:
            server.allow(shared_identity.public)
            with pytest.raises(Transient):
                machine_at(server.port).reach()


class TestBrokenConnections:
    def test_a_run_does_not_notice(
        self, sshd: Sshd, machine_at: Callable[..., SshMachine], make_job: Callable[..., Job], root: Path
    ) -> None:
        make_job(root / "j1").write(
            'while [ ! -e go ]; do sleep 0.05; done; echo "$TOKEN"; exit 3', secret_names=["TOKEN"]
        )
        machine = machine_at(sshd.port)
        machine.start("j1", {"TOKEN": "canary-1"})
        sshd.stop()
        eventually(lambda: isinstance(error_of(lambda: machine.status("j1")), Transient), "noticing the cut")
        sshd.start()
        assert not eventually(lambda: status_of(machine, "j1"), "reaching it again").over
        (root / "j1" / "work" / "go").touch()
        status = eventually(lambda: machine.status("j1").over and machine.status("j1"), "the end")
        assert (status.phase, status.record["exit_code"]) == (RunPhase.ENDED, 3)
        assert machine.read("j1/stdout.log", 0) == b"***\n"

    def test_it_is_made_anew(self, proxy: FaultProxy, machine_at: Callable[..., SshMachine]) -> None:
        machine = machine_at(proxy.port)
        machine.reach()
        proxy.cut()
        eventually(lambda: status_of(machine, "job"), "another connection")
        assert proxy.accepted == 2

    def test_threads_share_one(self, proxy: FaultProxy, machine_at: Callable[..., SshMachine], root: Path) -> None:
        machine_at(proxy.port).reach()
        (root / "job").mkdir()
        (root / "job" / "log").write_bytes(os.urandom(300_000))
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: found.append(machine_at(proxy.port).read("job/log", 0))) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [(root / "job" / "log").read_bytes()] * 5
        assert proxy.accepted == 1

    def test_a_machine_that_falls_silent(
        self, proxy: FaultProxy, machine_at: Callable[..., SshMachine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        machine = machine_at(proxy.port)
        machine.reach()
        for name in ("IO_TIMEOUT", "CONNECT_TIMEOUT", "PROBE_TIMEOUT"):
            monkeypatch.setattr(ssh_connection, name, 2.0)
        proxy.stall()
        with pytest.raises(Transient):
            machine.status("job")
        proxy.resume()
        monkeypatch.undo()
        assert eventually(lambda: status_of(machine, "job"), "an answer").phase is RunPhase.ABSENT

    def test_a_start_without_an_answer_is_lost(
        self,
        shared_sshd: Sshd,
        machine_at: Callable[..., SshMachine],
        make_job: Callable[..., Job],
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        make_job(root / "j1").write("true")
        (tmp_path / "profile").write_text("sleep 30 <&- & wait\n")
        machine = machine_at(shared_sshd.port)
        machine.reach()
        slow = machine_at(shared_sshd.port, profile=str(tmp_path / "profile"))
        monkeypatch.setattr(ssh, "START_TIMEOUT", 2.0)
        with pytest.raises(Lost):
            slow.start("j1", {})


class TestSecrets:
    def test_they_are_on_no_command_line_and_in_no_log(
        self, sshd: Sshd, machine_at: Callable[..., SshMachine], make_job: Callable[..., Job], root: Path
    ) -> None:
        job: Job = make_job(root / "j1").write("sleep 600", secret_names=["TOKEN"])
        seen: list[str] = []
        over = threading.Event()
        watcher = threading.Thread(target=watch_processes, args=(seen, over))
        watcher.start()
        machine_at(sshd.port).start("j1", {"TOKEN": "canary-4711"})
        job.running()
        over.set()
        watcher.join()
        assert any("runner" in line for line in seen)
        assert not any("canary-4711" in line for line in seen)
        texts = [path.read_bytes() for path in [*root.rglob("*"), *sshd.folder.iterdir()] if path.is_file()]
        assert not any(b"canary-4711" in text for text in texts)


def test_a_file_of_any_size_is_read_in_pieces(
    shared_sshd: Sshd, machine_at: Callable[..., SshMachine], root: Path
) -> None:
    machine = machine_at(shared_sshd.port)
    (root / "job").mkdir()
    with (root / "job" / "log").open("wb") as file:
        file.truncate(10**13)
        file.seek(5 * 10**12)
        file.write(b"here")
    assert machine.read("job/log", 5 * 10**12, 4) == b"here"
    assert len(machine.read("job/log", 7)) == 1 << 20


def test_pulling_what_is_not_a_path(shared_sshd: Sshd, machine_at: Callable[..., SshMachine], tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="leads out"):
        machine_at(shared_sshd.port).pull("job/\0", tmp_path / "home", silent)


def test_a_port_where_nobody_listens_is_named(machine_at: Callable[..., SshMachine]) -> None:
    port = free_port()
    with pytest.raises(NotYetReady, match=str(port)):
        machine_at(port).reach()


def error_of(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def status_of(machine: SshMachine, job: str) -> ssh.RunStatus | None:
    try:
        return machine.status(job)
    except Transient:
        return None


def answer_with(server: socket.socket, banner: bytes) -> None:
    client, _ = server.accept()
    with client:
        client.sendall(banner)
        client.recv(100)


def watch_processes(seen: list[str], over: threading.Event) -> None:
    """Every command line that this machine has, as often as can be looked."""
    while not over.is_set():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
