"""One walk over the host's schedule for all runs at once, solving the weights of each visit on the way."""

import math
from dataclasses import dataclass, field

import torch

from ..calibration_file import Budget, Row
from ..forecast import Weights, block_means, filled, weigh
from .ode import Walker, calls_at, stops
from .squares import gram, solve


@dataclass(frozen=True)
class Problem:
    """What is fitted: the runs, the solution that each should reach, and what may be weighed."""

    probes: list
    references: list  # a Reference for each of them
    method: str  # "euler" or "heun"
    branches: int
    history: int  # outputs that a row may weigh
    low: bool  # whether 4x4 means of everything are weighed too
    peak: float  # of the PSNR

    @property
    def sigmas(self):
        return self.probes[0].sigmas

    def first(self, count):
        """The same for the first ``count`` runs."""
        return Problem(self.probes[:count], self.references[:count], *(getattr(self, name) for name in _REST))

    def reference(self, run, node):
        """The x that ``run`` should have at ``node``."""
        return self.references[run].xs[node].to(self.probes[run].x.device)

    def decibels(self, errors):
        """The mean PSNR of samples that miss their reference by ``errors``, mean squares (S,)."""
        return float((10 * torch.log10(self.peak**2 / errors.clamp(min=1e-30))).mean())


_REST = ("method", "branches", "history", "low", "peak")


@dataclass
class Walk:
    """One run on its way: where it is, and what it holds."""

    walker: Walker
    outputs: list = field(default_factory=list)  # of each held output its branches, newest first
    means: list = field(default_factory=list)  # and their 4x4 means, where those are weighed

    @classmethod
    def of(cls, probe):
        return cls(Walker(probe.x, probe.x))

    @property
    def at(self):
        return self.walker.at

    def hold(self, branches, problem):
        """Take the ``branches`` of a call's output as the newest."""
        self.outputs = [branches, *self.outputs][: problem.history]
        if problem.low:
            self.means = [[block_means(branch) for branch in branches], *self.means][: problem.history]

    def regressors(self):
        """What may be weighed, as tensors of x's shape: x, the outputs, and then the means of the same."""
        whole = [self.at, *sum(self.outputs, [])]
        if not self.means:
            return whole
        return [*whole, *(filled(low, self.at.shape) for low in [block_means(self.at), *sum(self.means, [])])]

    def answer(self, row):
        """The output that ``row`` makes of them."""
        outputs, weights = sum(self.outputs, []), Weights(row.weights[0], row.weights[1:], row.low, 0, 0.0)
        return weigh(weights, self.at, outputs, sum(self.means, []), outputs[0].dtype)


@dataclass(frozen=True)
class Fit:
    """What a walk found, and where its runs ended: x (B, ...) each."""

    budget: Budget
    ends: list


def fit(problem, nodes, weigh_visit=solve):
    """Walk with denoiser calls at ``nodes`` (step indices, sorted). Returns a Fit.

    ``weigh_visit`` finds the weights of each visit in turn, as ``solve`` does. Every visit is solved on the x that the visits
    before it have led to (the *shifted* trajectory), so errors of earlier visits are corrected as far as the held outputs allow.
    """
    visits, walks = stops(problem.method, problem.sigmas), [Walk.of(probe) for probe in problem.probes]
    calls = calls_at(visits, set(nodes))
    rows = [_fit_visit(problem, walks, stop, call, weigh_visit) for stop, call in zip(visits, calls, strict=True)]
    ends = [walk.walker.x for walk in walks]
    errors = [mean_squares(end, problem.reference(run, -1)).cpu() for run, end in enumerate(ends)]
    return Fit(Budget(tuple(nodes), round(problem.decibels(torch.cat(errors)), 3), tuple(rows)), ends)


def _fit_visit(problem, walks, stop, call, weigh_visit):
    grams = []
    for run, walk in enumerate(walks):
        if call:
            walk.hold(problem.probes[run].denoise(walk.at, stop.sigma, problem.branches), problem)
        target = walk.walker.target(stop, problem.reference(run, stop.step + 1))
        grams.append(gram([*walk.regressors(), target]))
    weights, mean_square = weigh_visit(torch.cat(grams))
    count = len(weights) // 2 if problem.low else len(weights)
    residual = math.sqrt(mean_square * stop.landing)
    row = Row(stop.step, stop.sigma, call, tuple(weights[:count]), tuple(weights[count:]), residual)
    for walk in walks:
        walk.walker.advance(stop, walk.answer(row))
    return row


def mean_squares(x, reference):
    """Distance of each sample to its reference: (B, ...) -> (B,) float64."""
    return (x.to(reference.dtype) - reference).square().flatten(1).mean(1).double()
