"""Cheaper sampling for sgm-family diffusion code: a guider that forecasts instead of calling the denoiser."""

from .calibrated import calibrate
from .calibration_file import Calibration
from .guider import TaylorSeerGuider
from .report import Report, Visit

__version__ = "0.2.0"
__all__ = ["Calibration", "Report", "TaylorSeerGuider", "Visit", "__version__", "calibrate"]
