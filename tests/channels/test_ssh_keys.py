"""Our own key pair, and the host keys of machines."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backends.base import Rejected
from backends.channels.ssh_keys import HostKeys, fingerprint, identity

KEYS = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/",
]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pair_is_made_once(tmp_path: Path) -> None:
    made = identity(tmp_path / "ssh")
    assert made == identity(tmp_path / "ssh")
    assert made.public.startswith("ssh-ed25519 AAAA")
    assert mode(made.private) == 0o600
    assert mode(tmp_path / "ssh") == 0o700
    assert [path.name for path in (tmp_path / "ssh").iterdir()] == ["id_ed25519"]


def test_a_key_that_others_could_read_is_closed(tmp_path: Path) -> None:
    identity(tmp_path).private.chmod(0o644)
    assert mode(identity(tmp_path).private) == 0o600


def test_processes_that_race_get_the_same(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from backends.channels.ssh_keys import identity; "
        "print(identity(Path(sys.argv[1])).public)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "ssh")]
    racing = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    publics = {process.communicate()[0] for process in racing}
    assert publics == {identity(tmp_path / "ssh").public + "\n"}


def test_a_damaged_key_is_said(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519").write_text("-----BEGIN NONSENSE-----")
    with pytest.raises(Rejected, match="no private key") as error:
        identity(tmp_path)
    assert "move it away" in error.value.advice


def test_first_contact_pins_and_a_change_is_refused(tmp_path: Path) -> None:
    pins = HostKeys(tmp_path / "ssh" / "host_keys.json")
    assert pins.pinned("pod") is None
    pins.remember("pod", KEYS[0])
    pins.remember("pod", KEYS[0])
    with pytest.raises(Rejected, match=r"has changed from SHA256:.* to SHA256:"):
        pins.remember("pod", KEYS[1])
    assert HostKeys(tmp_path / "ssh" / "host_keys.json").pinned("pod") == KEYS[0]
    assert mode(tmp_path / "ssh" / "host_keys.json") == 0o600
    pins.forget("pod")
    pins.forget("pod")
    pins.remember("pod", KEYS[1])


def test_threads_that_race_lose_no_pin(tmp_path: Path) -> None:
    pins = HostKeys(tmp_path / "pins.json")
    threads = [threading.Thread(target=pins.remember, args=(f"pod-{n}", KEYS[n % 2])) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((tmp_path / "pins.json").read_text())) == 20


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "pins.json").write_text("{")
    with pytest.raises(Rejected, match="cannot be read"):
        HostKeys(tmp_path / "pins.json").pinned("pod")


def test_the_fingerprint_is_the_one_that_openssh_prints(tmp_path: Path) -> None:
    made = identity(tmp_path)
    (tmp_path / "key.pub").write_text(made.public)
    printed = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True).stdout
    assert fingerprint(made.public.rpartition(" ")[0]) in printed
