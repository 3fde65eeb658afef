"""Euler's method and Heun's (arXiv 2206.00364, algorithm 1) as data, and the fine solution of a run.

A step from ``sigma`` to ``next_sigma`` asks for an output once at its beginning (the predictor) and, in Heun's method, again
where the predictor lands, except in the step that ends at 0 (the corrector).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch

from ..forecast import RHO
from .squares import gram

TRACED = 1 << 14  # elements of each sample that plans are compared on


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
        """By how much a mean square error of the output is multiplied in the x where the visit leads to."""
        dt = self.end - self.start
        return (dt / (2 * self.end) if self.corrector else dt / self.start) ** 2


def stops(method, sigmas):
    """The visits of ``method`` ("euler" or "heun") over the schedule ``sigmas`` (floats), in order."""
    walk = []
    for step, (start, end) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        corrected = method == "heun" and end > 0
        walk.append(Stop(step, start, start, end, corrector=False, last=not corrected))
        if corrected:
            walk.append(Stop(step, end, start, end, corrector=True, last=True))
    return walk


def calls_at(walk, nodes):
    """For each stop, whether the denoiser is called there: at the first visit of each of ``nodes`` (step indices)."""
    seen, calls = set(), []
    for stop in walk:
        node = stop.step + stop.corrector
        calls.append(node in nodes and node not in seen)
        seen.add(node)
    return calls


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
        """The output that lands on ``reference``, the x wanted at the end of the step. Computed in float32 or wider.

        Predictor: (x' - r x) / (1 - r) with r = end / start; corrector: x_e - end (2 (x' - x) / dt - d).
        """
        x = self.x.to(reference.dtype)
        if not stop.corrector:
            ratio = stop.end / stop.start
            return (reference - ratio * x) / (1 - ratio)
        slope = (reference - x) * (2 / (stop.end - stop.start)) - self.d.to(x.dtype)
        return self.at.to(x.dtype) - stop.end * slope

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
    """The fine solution of one run, and what plans are compared on."""

    xs: list  # x at every node, on the CPU
    first: list  # the branches of the output at the run's start, which every walk of it begins with; on the CPU
    trace: torch.Tensor  # (B, m, m): Gram matrices of the x at all nodes, then the branches of the outputs at all but the last
    shifts: torch.Tensor  # (nodes, n, n): products of dx, the error of a host's Euler step, and what it does to the branches


def calls_of_reference(sigmas, count):
    """Denoiser calls that ``solve_finely`` makes."""
    return sum(1 if end == 0 else 4 * count for end in sigmas[1:]) + len(sigmas) - 2


def solve_finely(probe, count, branches):
    """Solve one run with ``count`` steps of Kutta's method of order 4 in each of the host's: a Reference.

    In sigma the slope is constant where the output is, so one step is as near as four of Heun's, at half of their calls. Steps in
    float32 at least, whatever the host's dtype, between sigmas that the host's dtype can represent.
    """
    x = probe.x.to(torch.promote_types(probe.x.dtype, torch.float32))
    xs, traced, outputs, shifts, first, euler = [x.cpu()], [_traced(x)], [], [], None, None
    for start, end in zip(probe.sigmas, probe.sigmas[1:], strict=False):
        at_node = probe.denoise(x, start, branches)
        first, guided = first or [branch.cpu() for branch in at_node], probe.guided(at_node).to(x.dtype)
        shifts.append(_shift(probe, x, euler, start, at_node))
        euler = x + (x - guided) / start * (end - start)
        x = _walked(probe, x, substeps(start, end, count, probe.dtype), guided, branches)
        xs.append(x.cpu())
        traced.append(_traced(x))
        outputs += [_traced(branch) for branch in at_node]
    return Reference(xs, first, gram([*traced, *outputs]), torch.stack(shifts))


def substeps(start, end, count, dtype):
    """``count + 1`` sigmas from ``start`` to ``end``, evenly spaced in sigma^(1/7), as ``dtype`` has them.

    One step where it ends at 0.
    """
    first, last = start ** (1 / RHO), end ** (1 / RHO)
    inner = [(first + (last - first) * i / count) ** RHO for i in range(1, count)] if end else []
    return [float(torch.tensor(sigma, dtype=torch.float64).to(dtype)) for sigma in (start, *inner, end)]


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


def _shift(probe, x, euler, sigma, branches):
    """How the branches answer an error of x: one of ``Reference.shifts``."""
    if euler is None:
        return torch.zeros(1 + len(branches), 1 + len(branches), dtype=torch.float64)
    moved = [there - here for there, here in zip(probe.denoise(euler, sigma, len(branches)), branches, strict=True)]
    return gram([euler - x, *moved]).sum(0)


def _traced(tensor):
    """The same elements, evenly spread, of every sample: (B, ...) -> (B, n)."""
    flat = tensor.detach().flatten(1)
    chosen = torch.linspace(0, flat.shape[1] - 1, min(flat.shape[1], TRACED)).long().to(flat.device)
    return flat[:, chosen].to("cpu", torch.promote_types(flat.dtype, torch.float32))
