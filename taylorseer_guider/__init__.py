"""Cheaper sampling for sgm-family diffusion code: a guider that forecasts instead of calling the denoiser."""

from .guider import TaylorSeerGuider
from .report import Report, Visit

__version__ = "0.1.0"
__all__ = ["Report", "TaylorSeerGuider", "Visit", "__version__"]
