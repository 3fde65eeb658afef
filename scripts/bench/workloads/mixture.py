"""A mixture of Gaussians, whose denoiser is known in closed form."""

import torch

from taylorseer_guider.standalone.mixture import GaussianMixture, patterns

from .base import Workload


def held_out(scale, count=32, seed=0):
    """Samples that lean to some components where conditioned."""
    denoiser, rng = GaussianMixture(patterns(), spread=0.05), torch.Generator().manual_seed(seed)
    noise = torch.randn(count, *denoiser.means.shape[1:], generator=rng)
    cond = {"vector": 2 * torch.randn(count, len(denoiser.means), generator=rng)}
    uc = {"vector": torch.zeros_like(cond["vector"])}
    return Workload("mixture", scale, denoiser, noise, cond, uc, exact_steps=300)


def training(scale, count=8, seed=1000):
    """Other draws."""
    return held_out(scale, count, seed)
