"""Google Drive v3 as a program: what Google's own Python client talks to, checked against its discovery document."""

from tests.emulators.drive.emulator import DriveEmulator
from tests.emulators.drive.files import File
from tests.emulators.drive.settings import DRIVE, DRIVE_FILE, SERVICE_ACCOUNT, Settings

__all__ = ["DRIVE", "DRIVE_FILE", "SERVICE_ACCOUNT", "DriveEmulator", "File", "Settings"]
