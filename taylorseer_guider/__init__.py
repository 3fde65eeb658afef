"""Cheaper sampling for sgm-family diffusion code: a guider that forecasts instead of calling the denoiser."""

from .calibration_file import Calibration
from .guider import TaylorSeerGuider
from .laboratory import calibrate
from .report import Report, Visit

__version__ = "0.3.0"
__all__ = ["Calibration", "Report", "TaylorSeerGuider", "Visit", "__version__", "calibrate"]
