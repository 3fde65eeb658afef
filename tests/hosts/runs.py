"""Running a host's sampler on a closed-form denoiser, and keeping what the summary at the end prints."""

from contextlib import contextmanager

import torch
from omegaconf import OmegaConf

from problems import EXACT, OURS, GaussianMixture
from taylorseer_guider.standalone.config import append_dims, instantiate_from_config

PLANS = {"default": {}, "interval 3": {"interval": 3}}
RESULTS = []  # (host, sampler, calls of the full run, [(calls, error) of each plan])
PROCESSES = []  # (host, lines on how its own process ended)
SCALE = 2.0
STEPS = 20
EDM = {"sigma_min": 0.002, "sigma_max": 40.0}


def guided_by(family, **settings):
    """Our guider, wrapping the one that takes a scale in this family."""
    wrapped = {"target": f"{family.package}.guiders.{family.guider['target']}", "params": family.guider["params"]}
    return {"target": OURS, "params": {"scale": SCALE, "guider_config": wrapped, **settings}}


def own_guider(family):
    """That guider as the family configures it."""
    return family.config("guiders", family.guider["target"], **{"scale": SCALE, **family.guider["params"]})


def build(family, name, guider, discretization=None, **params):
    """The sampler ``name`` of a family, from a config as a YAML file gives it."""
    discretization = discretization or family.config("discretizer", "EDMDiscretization", **EDM)
    params = {"num_steps": STEPS, "discretization_config": discretization, **family.sampler_params, **params}
    config = {"target": f"{family.package}.sampling.{name}", "params": {**params, "guider_config": guider}}
    return instantiate_from_config(OmegaConf.create(config))


def run(sampler, problem, *arguments, seed=5, **keywords):
    """``sampler(problem, x, cond, uc)`` from fixed noise. Returns the result; ``problem.calls`` counts this run alone."""
    problem.calls = 0
    x, cond, uc = arguments or problem.inputs()
    torch.manual_seed(seed)
    return sampler(problem, x.clone(), cond, uc, **keywords)


@contextmanager
def drawn():
    """The noise that is drawn in the context: copies, in order."""
    draws, original = [], torch.randn_like
    torch.randn_like = lambda *args, **kwargs: draws.append(original(*args, **kwargs)) or draws[-1].clone()
    try:
        yield draws
    finally:
        torch.randn_like = original


def error(result, full):
    """Root mean square of the difference, relative to the full run's."""
    return float((result - full).norm() / full.norm())


def compare(family, label, make, go, counts, bound=0.3):
    """The checks that every sampler of every host must pass.

    ``make(guider_config)`` builds the sampler and ``go(sampler)`` runs it, returning the result and the denoiser's calls.
    ``counts`` are the calls of the full run and by each of ``PLANS``. Bit-equal where every visit is computed; else
    the calls that the plan says, the same noise, a finite result whose error stays below ``bound``. Keeps a line for the
    summary.
    """
    with drawn() as noise:
        full, calls = go(make(own_guider(family)))
    exact = go(make(guided_by(family, **EXACT)))
    assert torch.equal(exact[0], full) and exact[1] == calls == counts[0]
    found = []
    for plan, expected in zip(PLANS.values(), counts[1:], strict=True):
        sampler = make(guided_by(family, **plan))
        with drawn() as noise_now:
            result, calls = go(sampler)
        assert calls == expected == sampler.guider.report.calls
        assert len(noise) == len(noise_now) and all(map(torch.equal, noise, noise_now))
        assert torch.isfinite(result).all() and result.dtype == full.dtype
        found.append((calls, error(result, full)))
        assert 0 < found[-1][1] < bound
    assert found[-1][0] <= 0.6 * counts[0]
    RESULTS.append((family.name, label, counts[0], found))


class Mixture(GaussianMixture):
    """The mixture behind a host's call: whatever else a host passes on is checked for its batch and left aside."""

    def __init__(self, **options):
        super().__init__(dtype=torch.float32, **options)

    def __call__(self, x, sigma, cond, *others, **inputs):
        for value in (sigma, cond["vector"], *inputs.values()):
            assert not torch.is_tensor(value) or value.shape[0] == x.shape[0]
        return super().__call__(x, sigma, {"vector": cond["vector"]})


class PreservingMixture(Mixture):
    """The same for hosts whose x is alpha * image + sqrt(1 - alpha^2) * noise and whose key is alpha."""

    def __call__(self, x, alpha, cond, *others, **inputs):
        alpha = alpha.clamp_min(1e-4)
        return super().__call__(x / append_dims(alpha, x.ndim), (1 - alpha**2).sqrt() / alpha, cond, *others, **inputs)
