"""Learning from what was measured: earlier runs correct the prediction of a need and say how sure it is. Pure."""

from orchestrator.planning.learning.calibration import Calibration, calibrate
from orchestrator.planning.learning.conformal import upper_bound
from orchestrator.planning.learning.observed import Measured, Observed, Subject

__all__ = ["Calibration", "Measured", "Observed", "Subject", "calibrate", "upper_bound"]
