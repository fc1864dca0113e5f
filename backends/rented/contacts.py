"""Rented machines over SSH: the home's own key pair, host keys pinned at first contact, one connection each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backends.base import Lease, Machine
from backends.channels.ssh_keys import HostKeys, identity

if TYPE_CHECKING:
    from backends.channels.ssh import Ahead

SSH_PORT = 22


class Contacts:
    """All machines that one home reaches at one provider; keys and pins lie in ``root``. Loads paramiko when used."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._host_keys = HostKeys(root / "host_keys.json")
        self._pins: dict[str, set[str]] = {}

    def public_key(self) -> str:
        """What a machine has to be told at its birth: a line of ``authorized_keys``."""
        return identity(self._root).public

    def reach(
        self, lease: Lease, pin: str, host: str, port: int = SSH_PORT, *,
        user: str = "root", place: str, profile: str | None = None, ahead: Ahead | None = None,
    ) -> Machine:  # fmt: skip
        """The lease's machine, with jobs below ``place`` there, once it can be worked with.

        ``pin`` names this start of this machine: a restarted one shows new host keys. ``profile`` is a shell file there
        that is sourced before everything; ``ahead`` may bring files there before they are pushed. Raises NotYetReady
        while it does not answer, Rejected where it cannot serve.
        """
        from backends.channels.ssh import SshMachine
        from backends.channels.ssh_connection import SshAddress

        self._pins.setdefault(lease.id, set()).add(pin)
        machine = SshMachine(
            address=SshAddress(host, port, user),
            identity=identity(self._root),
            host_keys=self._host_keys,
            pin=pin,
            root=place,
            profile=profile,
            ahead=ahead,
        )
        machine.reach()
        return machine

    def forget(self, lease: Lease) -> None:
        """Hang up, and drop the host keys of a machine that is gone."""
        from backends.channels.ssh_connection import hang_up

        for pin in self._pins.pop(lease.id, set()):
            hang_up(pin)
            self._host_keys.forget(pin)
