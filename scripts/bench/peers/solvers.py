"""Solvers by others, each as ``solve(denoise, noise, sigmas) -> x``.

``denoise(x, sigma)`` gives the guided output, ``noise`` is of unit variance, ``sigmas`` (1-d tensor) fall and end in 0. Every
solver calls once a step, except Heun. The step to sigma 0 ends at the denoised output, as all these packages have it.
"""

import importlib
import importlib.util
import sys
import types
from collections import deque
from itertools import pairwise

from taylorseer_guider.standalone.config import instantiate_from_config

ADAMS_BASHFORTH = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def start(noise, sigmas):
    """x at the first sigma, scaled as sgm does."""
    return noise * (1 + sigmas[0] ** 2).sqrt()


class Nodes:
    """A discretization that is a list of sigmas, whatever number of steps is asked."""

    def __init__(self, sigmas):
        self.sigmas = sigmas

    def __call__(self, n, device="cpu"):
        return self.sigmas.to(device)


def standalone(name):
    """A sampler of the standalone host."""

    def solve(denoise, noise, sigmas):
        nodes = {"target": "bench.peers.solvers.Nodes", "params": {"sigmas": sigmas}}
        target = f"taylorseer_guider.standalone.sampling.{name}"
        sampler = instantiate_from_config({"target": target, "params": {"num_steps": 1, "discretization_config": nodes}})
        return sampler(lambda x, sigma, cond: denoise(x, sigma[0]), noise, {})

    return solve


def ipndm4(denoise, noise, sigmas):
    """iPNDM of order 4 (arXiv 2202.09778 by way of 2204.13902): Adams-Bashforth on d = (x - denoised) / sigma.

    Its coefficients are those of even steps, whatever the nodes: that is the method.
    """
    x, slopes = start(noise, sigmas), deque(maxlen=4)
    for sigma, following in pairwise(sigmas):
        slopes.appendleft((x - denoise(x, sigma)) / sigma)
        x = x + (following - sigma) * sum(w * d for w, d in zip(ADAMS_BASHFORTH[len(slopes) - 1], slopes, strict=True))
    return x


def k_diffusion(solve, **options):
    """A sampler of k-diffusion: x and sigmas are already in its convention, and it wants both on one device."""

    def solved(denoise, noise, sigmas):
        sigmas = sigmas.to(noise.device)
        return solve(lambda x, sigma: denoise(x, sigma[0]), start(noise, sigmas), sigmas, disable=True, **options)

    return solved


def k_diffusion_sampling():
    """The module ``k_diffusion.sampling`` without what it does not use.

    That is the package's own __init__, which imports all that training needs, and torchvision, with which helpers show pictures.
    """
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None:
        raise ModuleNotFoundError("No module named 'k_diffusion'", name="k_diffusion")
    package, transforms = types.ModuleType("k_diffusion"), types.ModuleType("torchvision.transforms")
    package.__path__, transforms.functional = list(spec.submodule_search_locations), None
    stand_ins = {"k_diffusion": package, "torchvision": types.ModuleType("torchvision"), transforms.__name__: transforms}
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in stand_ins}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module("k_diffusion.sampling")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in stand_ins]:
            del sys.modules[name]
        sys.modules.update(before)


def diffusers(scheduler, **options):
    """A scheduler of diffusers, led along our sigmas.

    diffusers works on x / sqrt(1 + sigma^2), of unit variance at every sigma; these solvers are the same in either scale. Its
    own schedules are tied to 1000 training steps, so ours replaces the list that ``set_timesteps`` has made.
    """

    def solve(denoise, noise, sigmas):
        made = scheduler(prediction_type="sample", **options)
        made.set_timesteps(len(sigmas) - 1)
        made.sigmas, made.timesteps = sigmas.float(), sigmas[:-1]
        made.set_begin_index(0)
        x = noise
        for sigma, following in pairwise(sigmas):
            denoised = denoise(x * (1 + sigma**2).sqrt(), sigma)
            x = made.step(denoised, sigma, x).prev_sample if following > 0 else denoised
        return x

    return solve


def available():
    """({name: solve}, {name of a package that is not there: names of the solvers that it has})."""
    found = {
        "Euler": standalone("EulerEDMSampler"),
        "Heun": standalone("HeunEDMSampler"),
        "DPM++2M": standalone("DPMPP2MSampler"),
        "iPNDM4": ipndm4,
    }
    missing = {}
    try:
        sampling = k_diffusion_sampling()
        found["DPM++3M"] = k_diffusion(sampling.sample_dpmpp_3m_sde, eta=0.0, noise_sampler=lambda *sigmas: 0.0)
        found["LMS4"] = k_diffusion(sampling.sample_lms, order=4)
    except ImportError:
        missing["k-diffusion"] = "DPM++3M, LMS4"
    try:
        from diffusers import DEISMultistepScheduler, UniPCMultistepScheduler

        found["UniPC2"] = diffusers(UniPCMultistepScheduler, solver_order=2)
        found["UniPC3"] = diffusers(UniPCMultistepScheduler, solver_order=3)
        found["DEIS3"] = diffusers(DEISMultistepScheduler, solver_order=3)
    except ImportError:
        missing["diffusers"] = "UniPC2, UniPC3, DEIS3"
    return found, missing
