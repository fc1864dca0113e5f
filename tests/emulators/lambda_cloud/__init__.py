"""Lambda Cloud on this machine: REST v1, machines that are real ones, a meter, and faults on demand."""

from tests.emulators.lambda_cloud.emulator import LambdaEmulator
from tests.emulators.lambda_cloud.fleet import Instance

__all__ = ["Instance", "LambdaEmulator"]
