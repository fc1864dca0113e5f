"""moto's server, one for all emulators of this process in turn: it takes long to start."""

from __future__ import annotations

import atexit
import http.client
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import IO

MOTO_SECONDS = 120.0
"""Until moto must have answered."""


def fresh_moto() -> int:
    """The port of moto's server, which has forgotten all that was in it."""
    port = _moto()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=MOTO_SECONDS)
    connection.request("POST", "/moto-api/reset")
    assert connection.getresponse().status == 200
    connection.close()
    return port


@cache
def _moto() -> int:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("moto_process.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    port = int(process.stdout.readline())

    def stop(stdin: IO[str], stdout: IO[str]) -> None:
        stdin.close()
        process.wait(60)
        stdout.close()

    atexit.register(stop, process.stdin, process.stdout)
    return port
