"""What is sampled: a denoiser that counts its calls, its conditionings, the noise, and how a sample becomes a picture."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from taylorseer_guider import tiny
from taylorseer_guider.standalone.config import instantiate_from_config
from taylorseer_guider.standalone.discretization import EDMDiscretization
from taylorseer_guider.standalone.mixture import GaussianMixture
from taylorseer_guider.tiny.model import edm_denoiser
from taylorseer_guider.tiny.photographs import TRAINING, photograph

NODES = 20
FULL_CALLS = 2 * NODES - 1
EDM = {"sigma_min": 0.002, "sigma_max": 40.0}
CROPS = (("chelsea", 100, 150), ("coffee", 60, 330), ("chelsea", 20, 230), ("coffee", 200, 200))  # held out: name, top, left


def schedule(steps=NODES):
    """The EDM schedule of every run: ``steps`` sigmas, then 0."""
    return EDMDiscretization(**EDM)(steps)


@dataclass
class Workload:
    """One batch to sample at one guidance scale. ``calls`` and ``seconds`` are the denoiser's; a guided pair is one call."""

    name: str
    scale: float
    size: int
    seed: int
    denoiser: object  # (x, sigma, cond) -> denoised
    noise: torch.Tensor
    cond: dict
    uc: dict
    picture: object = staticmethod(lambda x: x)
    calls: int = 0
    seconds: float = 0.0

    def network(self, x, sigma, cond):
        """The denoiser as a sampler takes it, counted and timed."""
        started = perf_counter()
        denoised = self.denoiser(x, sigma, cond)
        self.calls, self.seconds = self.calls + 1, self.seconds + perf_counter() - started
        return denoised

    def denoise(self, x, sigma):
        """The guided output (B, ...) at ``x`` and one sigma for all of the batch: what methods without a guider ask."""
        sigma = x.new_ones(x.shape[0]) * sigma
        guider = instantiate_from_config(own_guider(self.scale))
        return guider(self.network(*guider.prepare_inputs(x, sigma, self.cond, self.uc)), sigma)


def own_guider(scale):
    """The standalone host's own guider, as a config."""
    name, params = ("IdentityGuider", {}) if scale == 1 else ("VanillaCFG", {"scale": scale})
    return {"target": f"taylorseer_guider.standalone.guiders.{name}", "params": params}


def embedded(scale, size, seed, crops=1, dtype=torch.float32):
    """Held-out crops for the embedded model to enlarge; every seed has other noise and, in turn, other crops."""
    chosen = [CROPS[(seed * crops + n) % len(CROPS)] for n in range(crops)]
    return _embedded([photograph(n)[top : top + size, left : left + size] for n, top, left in chosen], scale, seed, dtype)


def embedded_training(scale, size=48, crops=8, seed=1000):
    """Crops of the photographs that the model was trained on: what fitted methods may look at."""
    rng, images = np.random.default_rng(seed), []
    for n in range(crops):
        image = photograph(TRAINING[n % len(TRAINING)])
        top, left = (int(rng.integers(length - size + 1)) for length in image.shape[:2])
        images.append(image[top : top + size, left : left + size])
    return _embedded(images, scale, seed)


def _embedded(images, scale, seed, dtype=torch.float32):
    enlarged = tiny.enlarge(tiny.shrink(tiny.from_uint8(np.stack(images))))
    noise = torch.randn(enlarged.shape, generator=torch.Generator().manual_seed(seed))
    cond, uc = {"concat": enlarged}, {"concat": torch.zeros_like(enlarged)}
    denoiser = tiny.load_denoiser() if dtype == torch.float32 else low_precision(dtype)
    picture = lambda x: tiny.with_residual(x, enlarged)  # noqa: E731
    return Workload("embedded", scale, enlarged.shape[-1], seed, denoiser, noise, cond, uc, picture)


def low_precision(dtype):
    """The embedded denoiser with a network of ``dtype``; preconditioning and sampler stay float32, as hosts under autocast."""
    network, scaled = tiny.load_network(dtype=dtype), edm_denoiser()

    def narrow(x, c_noise, cond):
        return network(x.to(dtype), c_noise.to(dtype), {key: value.to(dtype) for key, value in cond.items()}).float()

    return lambda x, sigma, cond: scaled(narrow, x, sigma, cond)


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


def mixture(scale, seed, batch=2):
    """Samples of a Gaussian mixture, leaning to some of its components where conditioned."""
    denoiser, rng = GaussianMixture(patterns(), spread=0.05), torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, *denoiser.means.shape[1:], generator=rng)
    cond = {"vector": 2 * torch.randn(batch, len(denoiser.means), generator=rng)}
    uc = {"vector": torch.zeros_like(cond["vector"])}
    return Workload("mixture", scale, noise.shape[-1], seed, denoiser, noise, cond, uc)


def held_out(name, scale, size, seed, crops=1):
    """The batch that methods are compared on; a mixture has its own size."""
    return mixture(scale, seed) if name == "mixture" else embedded(scale, size, seed, crops)


def training(name, scale, crops=8):
    """The batch that fitted methods see instead of the held-out ones."""
    return mixture(scale, 1000, batch=crops) if name == "mixture" else embedded_training(scale, crops=crops)
