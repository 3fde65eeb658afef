"""Cheaper sampling for sgm-family diffusion code: a guider that forecasts instead of calling the denoiser."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .calibration_file import Calibration
    from .guider import TaylorSeerGuider
    from .laboratory import calibrate
    from .report import Report, Visit

__version__ = "0.4.0.dev0"
__all__ = ["Calibration", "Report", "TaylorSeerGuider", "Visit", "__version__", "calibrate"]
_ROOMS = {
    "Calibration": "calibration_file", "Report": "report", "TaylorSeerGuider": "guider", "Visit": "report",
    "calibrate": "laboratory",
}  # fmt: skip


def __getattr__(name):
    """A public name, or a room, when it is first asked for: the commands, which are in here, answer ``--help`` without torch."""
    if name in _ROOMS:
        globals()[name] = found = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
        return found
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
