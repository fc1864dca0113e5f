"""By hand: ``python -m tests.emulators.drive --port 8124``, then build the client from the document it writes."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

from tests.emulators.drive import DriveEmulator


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Google Drive v3, emulated on this machine.")
    parser.add_argument("--port", type=int, default=8124)
    parser.add_argument("--storage-bytes", type=int, default=15_000_000_000)
    parser.add_argument("--testing", action="store_true", help="refresh tokens die after 7 days")
    parser.add_argument("--client-file", type=Path, help="write client_secret.json here")
    given = parser.parse_args()
    lives = 7 * 86400.0 if given.testing else None
    with DriveEmulator(port=given.port, storage_bytes=given.storage_bytes, refresh_token_seconds=lives) as drive:
        if given.client_file:
            given.client_file.write_text(json.dumps(drive.client_config))
        print(f"GPUJOB_DRIVE_URL={drive.url}\nauthorized user: {json.dumps(drive.sign_in())}", flush=True)
        over = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: over.set())
        over.wait()


if __name__ == "__main__":
    main()
