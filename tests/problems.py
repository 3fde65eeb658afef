"""Denoisers in closed form, and the standalone samplers that walk them."""

import torch

from taylorseer_guider import loops, visits
from taylorseer_guider.standalone import mixture
from taylorseer_guider.standalone.config import instantiate_from_config

SAMPLERS = ("EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler")
VANILLA = "taylorseer_guider.standalone.guiders.VanillaCFG"
IDENTITY = "taylorseer_guider.standalone.guiders.IdentityGuider"
OURS = "taylorseer_guider.TaylorSeerGuider"
EXACT = {"interval": 1, "repeat_visits": "compute"}


class GaussianMixture(mixture.GaussianMixture):
    """The standalone host's mixture, of a few means drawn from one seed, in ``dtype``.

    ``calls`` counts runs and ``seen`` keeps the x of each, so that a test can tell what reached the network.
    """

    def __init__(self, shape=(3, 4, 4), components=5, spread=0.3, dtype=torch.float64):
        rng = torch.Generator().manual_seed(7)
        means = 0.6 * torch.randn(components, *shape, generator=rng, dtype=torch.float64)
        super().__init__(means.to(dtype), spread)
        self.shape, self.dtype = shape, dtype
        self.calls, self.seen = 0, []

    def __call__(self, x, sigma, cond):
        self.calls += 1
        self.seen.append(x.clone())
        return super().__call__(x, sigma, cond)

    def inputs(self, batch=2, seed=0):
        """``x, cond, uc`` for a sampler: unit noise, a leaning to some components, and none."""
        rng = torch.Generator().manual_seed(seed)
        x = torch.randn(batch, *self.shape, generator=rng, dtype=torch.float64)
        lean = 2 * torch.randn(batch, len(self.means), generator=rng, dtype=torch.float64)
        return x.to(self.dtype), {"vector": lean.to(self.dtype)}, {"vector": torch.zeros_like(lean).to(self.dtype)}


def runs(problem, count=2, batch=100):
    """Keyword arguments of ``count`` sampler calls on ``problem``, as ``calibrate`` takes them."""
    return [dict(zip(("x", "cond", "uc"), problem.inputs(batch, seed=n), strict=True)) for n in range(count)]


def decibels(x, exact):
    """The mean PSNR of the samples."""
    return float(10 * torch.log10(4 / (x.double() - exact.double()).square().flatten(1).mean(1)).mean())


def begun(guider, *sigmas, sampler=None):
    """A run of ``guider`` over ``sigmas``, begun by hand."""
    return loops.begin(guider, torch.tensor(sigmas), sampler)


def answered(guider, x, sigma, denoiser=lambda x, sigma, cond: x / 2):
    """The answer of one visit at ``x`` and ``sigma`` (one, or one for each sample), of a run that has begun."""
    sigma = torch.as_tensor(sigma).expand(len(x))
    with visits.gated(guider, denoiser) as gate:
        return guider(gate(*guider.prepare_inputs(x, sigma, {}, None)), sigma)


def sampler_config(name, target=OURS, num_steps=20, **params):
    """A standalone sampler's YAML as a dictionary, with a guider of class ``target``."""
    discretization = "taylorseer_guider.standalone.discretization.EDMDiscretization"
    return {
        "target": f"taylorseer_guider.standalone.sampling.{name}",
        "params": {
            "num_steps": num_steps,
            "discretization_config": {"target": discretization, "params": {"sigma_min": 0.002, "sigma_max": 40.0}},
            "guider_config": {"target": target, "params": params},
        },
    }


class Listed:
    """A schedule that is given, for a sampler's ``discretization``."""

    def __init__(self, *sigmas, dtype=torch.float32):
        self.sigmas = torch.tensor(sigmas, dtype=dtype)

    def __call__(self, n, device="cpu"):
        return self.sigmas


def sampler(name, target=OURS, num_steps=20, **params):
    """That sampler, built."""
    return instantiate_from_config(sampler_config(name, target, num_steps, **params))


def sample(name, problem, target=OURS, inputs=None, num_steps=20, **params):
    """Run it once on ``problem``. Returns (image, sampler)."""
    built = sampler(name, target, num_steps, **params)
    return built(problem, *(inputs or problem.inputs())), built
