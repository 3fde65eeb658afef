"""The embedded super-resolution model."""

from pathlib import Path

import torch
from safetensors import SafetensorError

from .. import tiny
from ..files import first_line
from .base import Enlarger
from .errors import UserError
from .tiles import Noise, scaled, windows


class TinyEngine(Enlarger):
    """The embedded model. ``factor`` times larger, any height and width."""

    factor = tiny.FACTOR
    bytes_per_pixel = 800  # of memory that a run takes, for each pixel that is made and each branch, in float32
    peak = 2 * tiny.images.GAIN  # range of what is sampled, where pictures span 2

    def __init__(self, weights=None, device="cpu", dtype=torch.float32):
        weights = Path(weights or tiny.WEIGHTS)
        if not weights.is_file():
            raise UserError(f"engine.params.weights={weights}: no such file; leave it out for the weights of the package")
        try:
            self.denoiser = tiny.load_denoiser(weights, device, dtype)
        except (SafetensorError, RuntimeError) as error:
            raise UserError(f"engine.params.weights={weights}: not weights of this model ({first_line(error)})") from None
        self.weights, self.device, self.dtype = weights, device, dtype

    def enlarged(self, small):
        """The bicubic enlargement of (1, 3, h, w) in [-1, 1], float32 on the CPU."""
        return tiny.enlarge(small)

    def arguments(self, small, seed):
        """Keyword arguments for ``sampler(denoiser, ...)``. The noise is drawn on the CPU: the same on every device."""
        return self.started(small, torch.randn(self.made(small), generator=torch.Generator().manual_seed(seed)))

    def made(self, small):
        """The shape of what is made of ``small``."""
        return (*small.shape[:2], *(n * self.factor for n in small.shape[2:]))

    def pieces(self, small, seed, tile):
        """Yield (window, its part of ``small``, keyword arguments for ``sampler(denoiser, ...)``) of each tile."""
        noise, drawn = Noise(self.made(small), seed), None
        for window in windows(*small.shape[2:], tile, self.factor):
            rows, columns = scaled(window.seen, self.factor)
            if rows != drawn:
                band, drawn = noise.rows(rows.start, rows.stop), rows
            piece = small[(..., *window.seen)]
            yield window, piece, self.started(piece, band[..., columns].contiguous())

    def started(self, small, noise):
        concat = self.enlarged(small).to(self.device, self.dtype)
        uc = {"concat": torch.zeros_like(concat)}
        return {"x": noise.to(self.device, self.dtype), "cond": {"concat": concat}, "uc": uc}

    def picture(self, x, small):
        """What a sampled ``x`` stands for: (1, 3, 4h, 4w) in [-1, 1], float32 on the CPU."""
        return tiny.with_residual(x.float().cpu(), self.enlarged(small))
