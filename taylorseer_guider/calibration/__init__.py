"""Calibration: plans and weights solved from a few runs of the user's own model, and the runs that use them."""

from .file import Calibration
from .fit import calibrate

__all__ = ["Calibration", "calibrate"]
