"""A worker that is told to end does so wherever it is at that moment."""

from __future__ import annotations

import subprocess
import sys

STOPPED_AGAIN_AND_AGAIN = """
import faulthandler, signal
from orchestrator.lifecycle.signals import when_told_to_end
from orchestrator.lifecycle.worker import Stopped, WorkerClock

faulthandler.dump_traceback_later(100, exit=True)
clock = WorkerClock()
for number in range(300):
    when_told_to_end(clock.stopping.set)
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 5e-5 + number % 50 * 1e-6)
    try:
        while True:
            clock.sleep(0)
    except Stopped:
        clock.stopping.clear()
"""


def test_it_does_not_wait_for_a_lock_that_it_holds() -> None:
    """Mostly it is interrupted in the midst of looking whether it should end, which takes that flag's lock."""
    done = subprocess.run([sys.executable, "-c", STOPPED_AGAIN_AND_AGAIN], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
