"""What a rented virtual machine runs first, given to it at its birth. The scripts lie beside this file."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

PLACE_FOR_JOBS = "/var/lib/gpujob/jobs"
"""On the machine's own disk, and closed to all but root."""

SPARE_SECONDS = 30
"""Before the end: so long a machine may take to shut down, which is paid for as well."""

_HERE = Path(__file__).parent
_END_OF_GUARD = "END_OF_GUARD"


def boot_script(*, key: str, ends_at: int, max_seconds: int, public_key: str, provider_snippet: str = "") -> str:
    """A script for root: the deadline first, then a way in for ``public_key`` (a line of ``authorized_keys``).

    The machine powers itself off at ``ends_at`` (UTC, seconds since 1970) or when it has been up for ``max_seconds``,
    :data:`SPARE_SECONDS` earlier. ``provider_snippet`` may define a shell function ``notice`` that succeeds once the
    provider has said that it takes the machine back: the runs on it are then asked to end. Holds no secret.
    """
    values = {
        "GPUJOB_KEY": key,
        "GPUJOB_ENDS_AT": str(ends_at),
        "GPUJOB_MAX_SECONDS": str(max_seconds),
        "GPUJOB_PUBLIC_KEY": public_key,
        "GPUJOB_PLACE": PLACE_FOR_JOBS,
        "GPUJOB_SPARE": str(SPARE_SECONDS),
    }
    given = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    guard = f"{given}{provider_snippet}\n{_text('vm_guard.sh')}"
    function = f"guard_text() {{\ncat <<'{_END_OF_GUARD}'\n{guard}{_END_OF_GUARD}\n}}\n"
    return f"#!/bin/sh\n{given}{function}{_text('vm_boot.sh')}"


def stop_commands() -> list[str]:
    """Shell commands that end the machine they run on, in the order to try: the runner's ``stop``."""
    return ["shutdown -P now", "poweroff -f"]


@cache
def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
