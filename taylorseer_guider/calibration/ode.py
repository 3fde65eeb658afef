"""Euler's method and Heun's (arXiv 2206.00364, algorithm 1) as data, and the fine solution of a run.

A step from ``sigma`` to ``next_sigma`` asks for an output once at its beginning (the predictor) and, in Heun's method, again
where the predictor lands, except in the step that ends at 0 (the corrector).
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from ..forecast import RHO

EULER = "EulerEDMSampler"  # whose steps a calibration is told in: all others are led along its path


@dataclass(frozen=True)
class Stop:
    """One visit of a walk over a schedule."""

    step: int
    sigma: float  # at which the sampler asks for an output
    start: float  # sigma of the step's beginning
    end: float  # sigma of the step's end
    corrector: bool
    last: bool  # of the visits of its step

    @property
    def landing(self):
        """By how much a mean square error of the output is multiplied in the x where a step of Euler's leads to."""
        return (1 - self.end / self.start) ** 2


def stops(method, sigmas):
    """The visits of ``method`` ("euler" or "heun") over the schedule ``sigmas`` (floats), in order."""
    walk = []
    for step, (start, end) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        corrected = method == "heun" and end > 0
        walk.append(Stop(step, start, start, end, corrector=False, last=not corrected))
        if corrected:
            walk.append(Stop(step, end, start, end, corrector=True, last=True))
    return walk


@dataclass
class Walker:
    """The state of one solver between its visits: ``at`` is the x that it hands over at the next one."""

    x: torch.Tensor  # at the beginning of the step
    at: torch.Tensor
    d: torch.Tensor | None = None  # dx/dsigma there, once the predictor is answered

    def to(self, device):
        """The same on ``device``."""
        return self.seen(lambda tensor: tensor.to(device))

    def seen(self, see):
        """The same of what ``see`` takes of each tensor."""
        return Walker(*(tensor if tensor is None else see(tensor) for tensor in (self.x, self.at, self.d)))

    def target(self, stop, reference):
        """The output with which a step of Euler's lands on ``reference``, the x wanted at its end: (x' - r x) / (1 - r) with
        r = end / start. Computed in float32 or wider.
        """
        ratio = stop.end / stop.start
        return (reference - ratio * self.x.to(reference.dtype)) / (1 - ratio)

    def advance(self, stop, denoised):
        """Take the output of a visit, in the sampler's own arithmetic."""
        d = (self.at - denoised) / stop.sigma
        dt = stop.end - stop.start
        if stop.corrector:
            self.x = self.at = self.x + (self.d + d) / 2 * dt
        elif stop.last:
            self.x = self.at = self.x + d * dt
        else:
            self.d, self.at = d, self.x + d * dt


@dataclass(frozen=True)
class Reference:
    """The fine solution of one run."""

    xs: list  # x at every sigma that it is wanted at, on the CPU
    first: list  # the branches of the output at the run's start, which every walk of it begins with; on the CPU
    sigmas: tuple = ()  # those that x is known at, where others may be wanted

    def over(self, sigmas):
        """The same at some of its ``sigmas``."""
        return replace(self, xs=[self.xs[self.sigmas.index(sigma)] for sigma in sigmas], sigmas=tuple(sigmas))


def calls_of_reference(sigmas, count):
    """Denoiser calls that ``solve_finely`` makes."""
    return sum(1 if end == 0 else 4 * count for end in sigmas[1:])


def solve_finely(probe, sigmas, count, branches):
    """Solve one run with ``count`` steps of Kutta's method of order 4 from each of ``sigmas`` to the next: a Reference.

    In sigma the slope is constant where the output is, so one step is as near as four of Heun's, at half of their calls. Steps in
    float32 at least, whatever the host's dtype, between sigmas that the host's dtype can represent.
    """
    x = probe.x.to(torch.promote_types(probe.x.dtype, torch.float32))
    xs, first = [x.cpu()], None
    for start, end in pairwise(sigmas):
        at_node = probe.denoise(x, start, branches)
        first = first or [branch.cpu() for branch in at_node]
        x = _walked(probe, x, substeps(start, end, count, probe.dtype), probe.guided(at_node).to(x.dtype), branches)
        xs.append(x.cpu())
    return Reference(xs, first, tuple(sigmas))


def substeps(start, end, count, dtype):
    """``count + 1`` sigmas from ``start`` to ``end``, evenly spaced in sigma^(1/7), as ``dtype`` has them.

    One step where it ends at 0.
    """
    first, last = start ** (1 / RHO), end ** (1 / RHO)
    inner = [(first + (last - first) * i / count) ** RHO for i in range(1, count)] if end else []
    return [float(torch.tensor(sigma, dtype=torch.float64, device="cpu").to(dtype)) for sigma in (start, *inner, end)]


def _walked(probe, x, sigmas, first, branches):
    """x after Kutta's method of order 4 over ``sigmas``; ``first`` is the output at its beginning. Euler's where one is 0."""

    def slope(x, sigma):
        return (x - probe.guided(probe.denoise(x, sigma, branches)).to(x.dtype)) / sigma

    d1 = (x - first.to(x.dtype)) / sigmas[0]
    for number, (start, end) in enumerate(pairwise(sigmas)):
        h, middle = end - start, start + (end - start) / 2
        d1 = slope(x, start) if number else d1
        if end == 0:
            return x + h * d1
        d2 = slope(x + h / 2 * d1, middle)
        d3 = slope(x + h / 2 * d2, middle)
        x = x + h / 6 * (d1 + 2 * d2 + 2 * d3 + slope(x + h * d3, end))
    return x
