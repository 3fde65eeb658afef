"""A denoiser in closed form: no network, no weights, and a solution that is known."""

import torch

from .config import append_dims


class GaussianMixture:
    """The exact denoiser E[x0 | x] of images that are drawn from K Gaussians of one ``spread`` about ``means`` (K, ...).

    ``denoiser(x, sigma, cond)`` takes x (B, ...) = image + sigma * noise, sigma (B,) and ``cond["vector"]`` (B, K), the log
    weights of the components (zeros: all alike), and returns the denoised x in its dtype and shape. With v = spread^2 + sigma^2,

        p_k = softmax_k(vector_k - |x - m_k|^2 / (2 v)),    D = (spread^2 x + sigma^2 sum_k p_k m_k) / v

    The shares p_k are computed in float64, since squared distances of large images are large numbers that differ by little.
    """

    def __init__(self, means, spread):
        self.means, self.spread = means, spread

    def __call__(self, x, sigma, cond):
        sigma = append_dims(sigma.to(x.dtype), x.ndim)
        variance = self.spread**2 + sigma**2
        means = self.means.flatten(1).to(x.device, torch.float64)
        away = torch.cdist(x.flatten(1).double(), means) ** 2
        shares = (cond["vector"] - 0.5 * away / variance.flatten(1)).softmax(-1)
        mean = (shares @ means).reshape(x.shape).to(x.dtype)
        return (self.spread**2 * x + sigma**2 * mean) / variance


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
