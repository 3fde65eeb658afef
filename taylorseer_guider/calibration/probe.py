"""Asking a host's own sampler for the denoiser's output at any x and sigma.

The sampler is started as its caller would and stopped at its first ``denoise``. What that method was called with, with another
x and sigma, gives the output there: no signature of any host is needed.
"""

import inspect
from contextlib import contextmanager

import torch

from ..report import CALL, Report, Visit
from ..trajectory import require_finite


class _Started(BaseException):
    """Ends a run at its first visit. Not an Exception, so that no host's own handler takes it for a fault."""


class Recorder:
    """A run in which everything is computed and the last raw and guided outputs stay visible."""

    def __init__(self, sigmas, sampler):
        self.sigmas, self.sampler, self.report, self.step = sigmas, sampler, Report(), None
        self.raw = self.guided = None

    def visit(self, x, sigma, gated):
        return Visit(self.step, float(sigma.flatten()[0]), CALL, "recorded")

    def answer(self, visit, x, denoised, combine, varying=False):
        self.raw, self.guided = denoised, combine(denoised)
        require_finite(self.guided, visit)
        return self.guided


class Probe:
    """One run of ``sampler``, stopped at its start.

    ``x`` (B, ...) is what the sampler hands over at the first visit, ``sigmas`` its schedule as it begins the run with. ``run``
    holds keyword arguments of the sampler's call; its tensors are copied, since samplers write into them.
    """

    def __init__(self, sampler, denoiser, run, seed, tick):
        self.sampler, self._denoiser, self.tick, self._recorder = sampler, denoiser, tick, None
        self._bound = _first_visit(sampler, denoiser, run, seed, self._begin)
        self.x, self._sigma = self._bound.arguments["x"].detach(), self._bound.arguments["sigma"]
        self.sigmas = self._recorder.sigmas.detach()

    def _begin(self, sigmas, sampler):
        self._recorder = self._recorder or Recorder(sigmas, sampler)
        return self._recorder

    def denoise(self, x, sigma, branches):
        """The ``branches`` (1 or 2) of the output at ``x`` and the float ``sigma``, uncond first: tensors of x's shape.

        Where ``x`` requires a gradient, so do they, if the host lets one through.
        """
        asked = {"x": x.to(self.x.dtype), "sigma": torch.full_like(self._sigma, sigma)}
        self._bound.arguments.update(asked)
        with self.sampler.guider.following(self._begin) as guider:
            guider.begin(self.sigmas, self.sampler)
            gated = guider.gated(self._denoiser)  # which the arguments may hold gated, from the sampler's own call
            with gated, torch.set_grad_enabled(x.requires_grad):
                self.sampler.denoise(*self._bound.args, **self._bound.kwargs)
        self.tick()
        found = [self._recorder.guided] if branches == 1 else self._recorder.raw.chunk(2)
        return [branch.clone() for branch in found]

    def branches(self):
        """2 where the guided output is uncond + scale (cond - uncond) of one doubled batch, else 1. Makes one call."""
        (guided,) = self.denoise(self.x, float(self.sigmas[0]), 1)
        raw, scale = self._recorder.raw, self.sampler.guider.scale
        if guided.shape != self.x.shape:
            shapes = f"x is {tuple(self.x.shape)}, the output {tuple(guided.shape)}"
            raise ValueError(f"{shapes}: only outputs of x's shape can be fitted")
        if raw.shape[0] != 2 * guided.shape[0] or raw.shape[1:] != guided.shape[1:]:
            return 1
        uncond, cond = raw.float().chunk(2)
        rounding = 8 * torch.finfo(raw.dtype).eps * (1 + abs(scale)) * float(raw.abs().max())
        return 2 if torch.allclose(uncond + scale * (cond - uncond), guided.float(), rtol=0, atol=rounding) else 1


def _first_visit(sampler, denoiser, run, seed, begin):
    """Arguments of the first ``denoise`` of ``sampler(denoiser, **run)``, bound to its parameters."""
    method = sampler.denoise
    found = []

    def stop(*args, **kwargs):
        found.append(inspect.signature(method).bind(*args, **kwargs))
        raise _Started

    sampler.denoise = stop
    try:
        with sampler.guider.following(begin), seeded(seed), torch.no_grad():
            sampler(denoiser, **copied(run))
    except _Started:
        return found[0]
    finally:
        del sampler.denoise
    raise ValueError(f"{type(sampler).__name__} ran to its end without asking for an output through `denoise`")


@contextmanager
def seeded(seed):
    """Random numbers as after ``torch.manual_seed(seed)``, and afterwards as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def copied(value):
    """``value`` with its tensors cloned, inside dictionaries, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return type(value)(copied(item) for item in value) if type(value) in (list, tuple) else value
