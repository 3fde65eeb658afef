"""A mixture of Gaussians, whose denoiser is known in closed form."""

import torch

from taylorseer_guider.standalone.mixture import GaussianMixture

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


def patterns(size=16, branching=4, amplitudes=((4, 0.6), (8, 0.25), (16, 0.1))):
    """Means of a mixture (K, 3, size, size) that form a tree: coarse patterns, each with finer and fainter variants.

    So outputs keep deciding between components over a wide range of sigmas, as they do for photographs.
    """
    rng = torch.Generator().manual_seed(7)
    means = torch.zeros(1, 3, size, size)
    for cells, amplitude in amplitudes:
        fine = torch.randn(len(means) * branching, 3, cells, cells, generator=rng) * amplitude
        fine = torch.nn.functional.interpolate(fine, size=(size, size), mode="bicubic")
        means = means.repeat_interleave(branching, 0) + fine
    return means
