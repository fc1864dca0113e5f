"""RunPod as a program: its two APIs on one port, pods that are real machines with real sshds, faults and a bill."""

from tests.emulators.guest.container import why_no_guests, why_no_memory_limit
from tests.emulators.runpod.emulator import RunPodEmulator
from tests.emulators.runpod.limits import DOCUMENTED, ROOMY
from tests.emulators.runpod.pods import Pod
from tests.emulators.runpod.settings import Settings

__all__ = ["DOCUMENTED", "ROOMY", "Pod", "RunPodEmulator", "Settings", "why_no_guests", "why_no_memory_limit"]
