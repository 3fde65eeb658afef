"""A mixture of Gaussians in the place of a network: its answers are exact, and cost nothing."""

import torch

from ..standalone.mixture import GaussianMixture, patterns
from .base import Engine
from .errors import UserError
from .sgm import grid


class MixtureEngine(Engine):
    """``count`` samples of the standalone host's mixture, of ``spread`` about a tree of patterns; each leans to some of them."""

    takes_pictures, factor, peak, on_cuda = False, 1, 2.0, "float32"

    def __init__(self, count=8, spread=0.05, device="cpu", dtype=torch.float32):
        if count < 1 or not spread > 0:
            raise UserError(f"engine.params: count={count}, spread={spread}: give one sample or more, and a spread above 0")
        self.count, self.device, self.dtype = count, device, dtype
        self.denoiser = GaussianMixture(patterns(), spread)

    def inputs(self, pictures, shrink_first=False):
        """Yield one (name, None, None): nothing here is conditioned on a picture."""
        yield "mixture", None, None

    def arguments(self, small, seed):
        """Keyword arguments for ``sampler(denoiser, ...)``. The noise is drawn on the CPU: the same on every device."""
        rng, means = torch.Generator().manual_seed(seed), self.denoiser.means
        x = torch.randn(self.count, *means.shape[1:], generator=rng).to(self.device, self.dtype)
        lean = 2 * torch.randn(self.count, len(means), generator=rng).to(self.device)
        return {"x": x, "cond": {"vector": lean}, "uc": {"vector": torch.zeros_like(lean)}}

    def picture(self, x, small):
        """The samples side by side: (1, 3, H, W) in [-1, 1], float32 on the CPU."""
        return grid(x.float().cpu().clamp(-1, 1), self.count)

    def shown(self, small):
        return {}
