"""The embedded 4x super-resolution model: what it diffuses, its network and its weights."""

from .images import FACTOR, enlarge, from_uint8, residual, shrink, to_uint8, with_residual
from .model import WEIGHTS, build_network, load_denoiser, load_network

__all__ = [
    "FACTOR", "WEIGHTS", "build_network", "enlarge", "from_uint8", "load_denoiser", "load_network", "residual", "shrink",
    "to_uint8", "with_residual",
]  # fmt: skip
