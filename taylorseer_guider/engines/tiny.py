"""The embedded super-resolution model."""

from pathlib import Path

import torch
from safetensors import SafetensorError

from .. import tiny
from .base import Enlarger
from .errors import UserError, first_line


class TinyEngine(Enlarger):
    """The embedded model. ``factor`` times larger, any height and width."""

    factor = tiny.FACTOR
    peak = 2 * tiny.images.GAIN  # range of what is sampled, where pictures span 2

    def __init__(self, weights=None, device="cpu", dtype=torch.float32):
        weights = Path(weights or tiny.WEIGHTS)
        if not weights.is_file():
            raise UserError(f"engine.params.weights={weights}: no such file; leave it out for the weights of the package")
        try:
            self.denoiser = tiny.load_denoiser(weights, device, dtype)
        except (SafetensorError, RuntimeError) as error:
            raise UserError(f"engine.params.weights={weights}: not weights of this model ({first_line(error)})") from None
        self.device, self.dtype = device, dtype

    def enlarged(self, small):
        """The bicubic enlargement of (1, 3, h, w) in [-1, 1], float32 on the CPU."""
        return tiny.enlarge(small)

    def arguments(self, small, seed):
        """Keyword arguments for ``sampler(denoiser, ...)``. The noise is drawn on the CPU: the same on every device."""
        enlarged = self.enlarged(small)
        noise = torch.randn(enlarged.shape, generator=torch.Generator().manual_seed(seed))
        concat = enlarged.to(self.device, self.dtype)
        uc = {"concat": torch.zeros_like(concat)}
        return {"x": noise.to(self.device, self.dtype), "cond": {"concat": concat}, "uc": uc}

    def picture(self, x, small):
        """What a sampled ``x`` stands for: (1, 3, 4h, 4w) in [-1, 1], float32 on the CPU."""
        return tiny.with_residual(x.float().cpu(), self.enlarged(small))
