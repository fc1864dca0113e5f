"""What an emulated virtual machine has beside a guest's own: an init, and a power-off that is its end."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
COMMAND = ["/usr/local/bin/init"]
"""Its process 1; what stands in ``told["user-data"]`` of the image is run by it."""
FILES = {
    "/usr/local/bin/init": (str(_HERE / "init.sh"), 0o755),
    "/usr/local/bin/shutdown": (str(_HERE / "shutdown.sh"), 0o755),
    "/usr/local/bin/poweroff": (str(_HERE / "shutdown.sh"), 0o755),
}
