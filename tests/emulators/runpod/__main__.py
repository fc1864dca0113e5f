"""By hand: ``python -m tests.emulators.runpod --port 8123``, then point the backend at it."""

from __future__ import annotations

import argparse
import signal
import threading

from tests.emulators.runpod import DOCUMENTED, ROOMY, RunPodEmulator, why_no_guests


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="RunPod, emulated on this machine.")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--memory-scale", type=float, default=1.0, help="a pod's real memory limit per advertised RAM")
    parser.add_argument("--starting-seconds", type=float, default=2.0)
    parser.add_argument("--documented-limits", action="store_true", help="60 requests a minute, as documented")
    given = parser.parse_args()
    reason = why_no_guests()
    with RunPodEmulator(
        port=given.port,
        memory_scale=given.memory_scale,
        starting_seconds=given.starting_seconds,
        quotas=dict(DOCUMENTED if given.documented_limits else ROOMY),
        machines=reason is None,
    ) as cloud:
        print(f"RUNPOD_API_BASE_URL={cloud.url}\nRUNPOD_API_KEY={cloud.key}", flush=True)
        if reason:
            print(f"Pods will have no processes: {reason}", flush=True)
        over = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: over.set())
        over.wait()


if __name__ == "__main__":
    main()
