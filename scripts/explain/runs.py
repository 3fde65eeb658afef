"""Runs of the standalone host whose outputs are kept: a full one on a fine schedule, and one with forecasts beside the truth."""

from dataclasses import dataclass

import torch

from taylorseer_guider import tiny
from taylorseer_guider.standalone.config import instantiate_from_config
from taylorseer_guider.standalone.mixture import GaussianMixture
from taylorseer_guider.tiny.photographs import photograph

EDM = {"sigma_min": 0.002, "sigma_max": 40.0}
NODES = 20  # of the host's own schedule, which all gaps are told in
APART = 50  # grey levels between the pixels that are drawn
EXACT = {"interval": 1, "repeat_visits": "compute"}


@dataclass(frozen=True)
class Subject:
    """What is sampled: a denoiser, the noise (B, ...), the conditioning, and how an output becomes a picture."""

    name: str
    denoiser: object  # (x, sigma, cond) -> denoised
    noise: torch.Tensor
    cond: dict
    picture: object = staticmethod(lambda x: x)


@dataclass(frozen=True)
class Seen:
    """One node of a run with forecasts: what the sampler got there, and what the denoiser says at the same x."""

    sigma: float
    called: bool
    got: torch.Tensor
    truth: torch.Tensor


def mixture(spread=0.3, components=16, size=16, batch=4):
    """A Gaussian mixture in closed form and in float64, so that even the smallest errors are those of the forecast."""
    rng = torch.Generator().manual_seed(7)
    coarse = 0.6 * torch.randn(components, 3, size // 4, size // 4, generator=rng, dtype=torch.float64)
    means = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    noise = torch.randn(batch, 3, size, size, generator=rng, dtype=torch.float64)
    return Subject("Gaussian mixture", GaussianMixture(means, spread), noise, {"vector": noise.new_zeros(batch, components)})


def embedded(size=48, name="chelsea", top=100, left=150):
    """A held-out photograph's crop for the embedded model to enlarge."""
    image = photograph(name)[None, top : top + size, left : left + size].copy()
    enlarged = tiny.enlarge(tiny.shrink(tiny.from_uint8(image)))
    noise = torch.randn(enlarged.shape, generator=torch.Generator().manual_seed(0))
    show = lambda x: tiny.with_residual(x, enlarged)  # noqa: E731
    return Subject("embedded model", tiny.load_denoiser(), noise, {"concat": enlarged}, show)


def euler(steps, options, bar=False):
    """An Euler sampler of ``steps`` steps with our guider at scale 1, as a YAML would build it."""
    params = {
        "num_steps": steps,
        "verbose": bar,
        "discretization_config": {"target": "taylorseer_guider.standalone.discretization.EDMDiscretization", "params": EDM},
        "guider_config": {"target": "taylorseer_guider.TaylorSeerGuider", "params": {"scale": 1.0, **options}},
    }
    return instantiate_from_config({"target": "taylorseer_guider.standalone.sampling.EulerEDMSampler", "params": params})


@torch.inference_mode()
def record(subject, steps, bar=False):
    """(sigmas, outputs) of a full run: a float and a tensor for each of ``steps`` nodes."""
    sigmas, outputs = [], []

    def kept(x, sigma, cond):
        denoised = subject.denoiser(x, sigma, cond)
        sigmas.append(float(sigma[0]))
        outputs.append(denoised)
        return denoised

    euler(steps, EXACT, bar)(kept, subject.noise.clone(), subject.cond)
    return sigmas, outputs


@torch.inference_mode()
def foretold(subject, options, steps=NODES, bar=False):
    """[Seen] of a run with forecasts, in the order of its nodes, and the run's report.

    The loop of a sampler, driven by hand: it shows the x of every node, forecast or not.
    """
    sampler, found = euler(steps, options, bar), []
    x, ones, sigmas, count, cond, uc = sampler.prepare_sampling_loop(subject.noise.clone(), subject.cond)
    for i in sampler.get_sigma_gen(count):
        sigma, following = ones * sigmas[i], ones * sigmas[i + 1]
        after, _ = sampler.sampler_step(x, sigma, following, subject.denoiser, cond, uc, None)
        got = x - sigmas[i] * (after - x) / (sigmas[i + 1] - sigmas[i])  # Euler's step, solved for the output
        found.append((float(sigmas[i]), got, subject.denoiser(x, sigma, cond)))
        x = after
    report = sampler.guider.report
    actions = [visit.action == "call" for visit in report.visits]
    return [Seen(sigma, called, got, truth) for (sigma, got, truth), called in zip(found, actions, strict=True)], report


def pixels(subject, nodes, count=3):
    """[(got, truth)]: values from 0 to 255 of ``count`` pixels along ``nodes``: those that change most, and end well apart."""
    got, truth = (torch.stack([_green(subject, getattr(node, side)) for node in nodes], 1) for side in ("got", "truth"))
    ends, chosen = truth[:, -1], []
    for place in (ends - truth[:, 0]).abs().argsort(descending=True).tolist():
        apart = all(abs(ends[place] - ends[other]) > APART for other in chosen)
        if APART / 2 < ends[place] < 255 - APART / 2 and apart and len(chosen) < count:
            chosen.append(place)
    return [(got[place].tolist(), truth[place].tolist()) for place in chosen]


def _green(subject, output):
    """The green values (H * W) of the first picture of a batch."""
    return 255 / 2 * (subject.picture(output)[0, 1].flatten() + 1)
