"""What every workload is: noise, conditioning and a denoiser that counts what it is asked, and how a sample becomes pictures."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter

import torch

from taylorseer_guider.standalone.config import instantiate_from_config
from taylorseer_guider.standalone.discretization import EDMDiscretization

NODES = 20
FULL_CALLS = 2 * NODES - 1


@dataclass
class Workload:
    """A batch of N pictures to sample at one guidance scale.

    ``calls`` and ``seconds`` are the denoiser's; a guided pair is one call and two ``branches``, which count per picture.
    """

    name: str
    scale: float
    denoiser: Callable = field(repr=False)  # (x, sigma, cond) -> denoised
    noise: torch.Tensor = field(repr=False)  # (N, C, H, W), unit variance
    cond: dict = field(repr=False)
    uc: dict = field(repr=False)
    edm: dict = field(default_factory=lambda: {"sigma_min": 0.002, "sigma_max": 40.0})  # EDM's schedule
    exact_steps: int = 80  # of Heun, for the exact solution
    decode: Callable = field(default=lambda x, cond: x, repr=False)  # (x, cond) -> (N, C, H, W) in [-1, 1]
    weights: str | None = None  # a digest of them, where there have been others
    calls: int = 0
    branches: float = 0.0
    seconds: float = 0.0

    def sigmas(self, steps=NODES):
        """The schedule of every run: ``steps`` sigmas, then 0."""
        return EDMDiscretization(**self.edm)(steps)

    def pictures(self, x):
        """(N, C, H, W) in [-1, 1] of the samples ``x``."""
        return self.decode(x, self.cond)

    def network(self, x, sigma, cond):
        """The denoiser as a sampler takes it, counted and timed."""
        started = perf_counter()
        denoised = self.denoiser(x, sigma, cond)
        self.calls, self.seconds = self.calls + 1, self.seconds + perf_counter() - started
        self.branches += len(x) / len(self.noise)
        return denoised

    def denoise(self, x, sigma):
        """The guided output (N, ...) at ``x`` and one sigma for all of the batch: what methods without a guider ask."""
        sigma = x.new_ones(x.shape[0]) * sigma
        guider = instantiate_from_config(own_guider(self.scale))
        return guider(self.network(*guider.prepare_inputs(x, sigma, self.cond, self.uc)), sigma)

    def branch(self, x, sigma, side):
        """The output of one branch, ``side`` "cond" or "uc": what cheaper guidance asks."""
        return self.network(x, x.new_ones(x.shape[0]) * sigma, getattr(self, side))

    def part(self, chosen):
        """The workload of the pictures ``chosen``, a slice."""
        sides = {name: {key: value[chosen] for key, value in getattr(self, name).items()} for name in ("cond", "uc")}
        counts = {"calls": 0, "branches": 0.0, "seconds": 0.0}
        return replace(self, noise=self.noise[chosen], **sides, **counts)


def own_guider(scale):
    """The standalone host's own guider, as a config."""
    name, params = ("IdentityGuider", {}) if scale == 1 else ("VanillaCFG", {"scale": scale})
    return {"target": f"taylorseer_guider.standalone.guiders.{name}", "params": params}


def sampler_of(workload, options=None, solver="HeunEDMSampler", steps=NODES):
    """A sampler of the standalone host: with our guider and its ``options``, or with its own where they are None."""
    guider = own_guider(workload.scale)
    if options is not None:
        guider = {"target": "taylorseer_guider.TaylorSeerGuider", "params": {"scale": workload.scale, **options}}
    edm = {"target": "taylorseer_guider.standalone.discretization.EDMDiscretization", "params": workload.edm}
    params = {"num_steps": steps, "discretization_config": edm, "guider_config": guider}
    return instantiate_from_config({"target": f"taylorseer_guider.standalone.sampling.{solver}", "params": params})


def host(workload, **choices):
    """A run of ``sampler_of`` on ``workload``, begun: a function that samples."""
    sampler = sampler_of(workload, **choices)
    return partial(sampler, workload.network, workload.noise, workload.cond, workload.uc)
