"""Forks real workers quickly: everything is imported once, each worker is a process of its own that can be killed.

Its arguments are further modules to import. Reads one JSON line per worker: ``{"home": ..., "crash_at": N or NAME,
"trace": FILE, "log": FILE}``; answers with its exit status, negative for the signal that ended it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import orchestrator.records.migrating  # noqa: F401
from backends import failpoints
from orchestrator.cli.running import run_worker
from orchestrator.home import Home


def work(order: dict[str, str]) -> int:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["GPUJOB_HOME"] = order["home"]
    failpoints._target = str(order["crash_at"])
    failpoints._trace = order["trace"]
    return run_worker(Home(Path(order["home"])), background=False, until_idle=True)


for module in sys.argv[1:]:
    importlib.import_module(module)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work(json.loads(line))
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
