"""One walk over the host's schedule for all samples at once, solving the weights of each visit on the way."""

import math
from dataclasses import dataclass

import torch

from .answer import answer, pooled, spread
from .file import Budget, Row
from .solve import gram, solve
from .stepping import Walker, calls_at, stops
from .store import Store


@dataclass
class Problem:
    """What is fitted: the runs, the solution that each should reach, and what may be weighed."""

    probes: list
    method: str  # "euler" or "heun"
    sigmas: list  # floats
    branches: int
    history: int  # outputs that a row may weigh
    low: bool  # whether 4x4 means of everything are weighed too
    peak: float  # of the PSNR
    store: Store

    def reference(self, run, node):
        return self.store.get(f"reference-{run}-{node}", self.probes[run].x.device)

    def keep_reference(self, run, node, x):
        self.store.put(f"reference-{run}-{node}", x)

    def walker(self, run):
        return Walker(**self.store.get(f"walker-{run}", self.probes[run].x.device))

    def keep_walker(self, run, walker):
        self.store.put(f"walker-{run}", vars(walker))

    def end(self, calls):
        """Where the first run ended with the weights of ``calls`` calls."""
        return self.store.get(f"end-{calls}", self.probes[0].x.device)

    def keep_end(self, calls):
        self.store.put(f"end-{calls}", self.walker(0).x)

    def decibels(self, errors):
        """The mean PSNR of samples that miss their reference by ``errors``, mean squares (S,)."""
        return float((10 * torch.log10(self.peak**2 / errors.clamp(min=1e-30))).mean())


def fit(problem, nodes, weigh=solve):
    """Walk with denoiser calls at ``nodes`` (step indices, sorted). Returns the Budget with its solved rows.

    ``weigh`` finds the weights of each visit in turn, as ``solve`` does. Every visit is solved on the x that the visits before it
    have led to (the *shifted* trajectory), so errors of earlier visits are corrected as far as the held outputs allow. Runs are
    taken one at a time and wait in the problem's store.
    """
    walk = stops(problem.method, problem.sigmas)
    for run, probe in enumerate(problem.probes):
        problem.keep_walker(run, Walker(probe.x, probe.x))
    rows = [_fit_visit(problem, stop, call, weigh) for stop, call in zip(walk, calls_at(walk, set(nodes)), strict=True)]
    last = len(problem.sigmas) - 1
    errors = [mean_squares(problem.walker(run).x, problem.reference(run, last)).cpu() for run in range(len(problem.probes))]
    db = problem.decibels(torch.cat(errors))
    return Budget(tuple(nodes), round(db, 3), tuple(rows))


def _fit_visit(problem, stop, call, weigh):
    grams = []
    for run, probe in enumerate(problem.probes):
        walker = problem.walker(run)
        if call:
            walker.hold(probe.denoise(walker.at, stop.sigma, problem.branches), problem.history, problem.low)
            problem.keep_walker(run, walker)
        target = walker.target(stop, problem.reference(run, stop.step + 1))
        grams.append(gram([*_regressors(problem, walker), target]))
    weights, mean_square = weigh(torch.cat(grams))
    count = len(weights) // 2 if problem.low else len(weights)
    residual = math.sqrt(mean_square * stop.landing)
    row = Row(stop.step, stop.sigma, call, tuple(weights[:count]), tuple(weights[count:]), residual)
    for run in range(len(problem.probes)):
        walker = problem.walker(run)
        outputs, lows = sum(walker.held, []), sum(walker.lows, [])
        walker.advance(stop, answer(row, walker.at, outputs, lows, outputs[0].dtype))
        problem.keep_walker(run, walker)
    return row


def _regressors(problem, walker):
    full = [walker.at, *sum(walker.held, [])]
    if not problem.low:
        return full
    return [*full, *(spread(low, walker.at.shape) for low in [pooled(walker.at), *sum(walker.lows, [])])]


def mean_squares(x, reference):
    """Distance of each sample to its reference: (B, ...) -> (B,) float64."""
    return (x.to(reference.dtype) - reference).square().flatten(1).mean(1).double()
