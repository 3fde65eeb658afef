"""How the samplers step that can be calibrated: Euler's method and Heun's (arXiv 2206.00364, algorithm 1), as data.

A step from ``sigma`` to ``next_sigma`` asks for an output once at its beginning (the predictor) and, in Heun's method, again
where the predictor lands, except in the step that ends at 0 (the corrector).
"""

from dataclasses import dataclass, field

import torch

from ..hosts import METHODS
from .answer import pooled


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


def method_of(sampler):
    """ "euler" or "heun". Raises ValueError, with the reason, for a sampler that cannot be calibrated."""
    names = [cls.__name__ for cls in type(sampler).__mro__]
    method = next((METHODS[name] for name in names if name in METHODS), None)
    if method is None:
        raise ValueError(
            f"{names[0]} cannot be calibrated: it does not step as Euler's or Heun's method does; use {', '.join(METHODS)}"
        )
    if churn := getattr(sampler, "s_churn", 0):
        raise ValueError(f"{names[0]} with s_churn={churn} adds noise while sampling; only a deterministic run can be fitted")
    return method


@dataclass
class Walker:
    """The state of one run between its visits: ``at`` is the x that the sampler hands over at the next one."""

    x: torch.Tensor  # at the beginning of the step
    at: torch.Tensor
    d: torch.Tensor | None = None  # dx/dsigma there, once the predictor is answered
    held: list = field(default_factory=list)  # branches of the newest outputs, newest first
    lows: list = field(default_factory=list)  # their 4x4 means, where those are weighed

    def hold(self, branches, history, low):
        """Take the ``branches`` of a call's output as the newest of ``history``, with their means where those are weighed."""
        self.held = [branches, *self.held][:history]
        if low:
            self.lows = [[pooled(branch) for branch in branches], *self.lows][:history]

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
