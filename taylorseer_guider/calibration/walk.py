"""One walk over a schedule for all runs at once, solving the weights of each visit on the way."""

import math
from dataclasses import dataclass, field

import torch

from ..calibration_file import Budget, Row
from ..forecast import Weights, block_means, filled, weigh
from .ode import Walker, stops
from .problem import mean_squares
from .scales import widened
from .squares import gram, residual, solve

DIGITS = 7  # of a weight: float32 tells no more apart


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

    def to(self, device):
        """The same on ``device``."""
        held = [[[tensor.to(device) for tensor in branches] for branches in kept] for kept in (self.outputs, self.means)]
        return Walk(self.walker.to(device), *held)

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
        """The output that ``row``, of the run's own scale, makes of them."""
        outputs, weights = sum(self.outputs, []), Weights(row.weights[0], row.weights[1:], row.low, 0, 0.0)
        return weigh(weights, self.at, outputs, sum(self.means, []), outputs[0].dtype)


@dataclass(frozen=True)
class Fit:
    """What a walk found, and where its runs ended: x (B, ...) each, on the CPU."""

    budget: Budget
    decibels: torch.Tensor  # of all samples, (S,)
    ends: list


def fit(problem, nodes, weigh_visit=solve):
    """Walk over the sigmas of ``problem`` with denoiser calls at ``nodes`` (indices, rising, from 0). Returns a Fit.

    ``weigh_visit`` finds the weights of each visit in turn, as ``solve`` does.
    Every visit is solved on the x that the visits before it have led to (the *shifted* trajectory), so errors of earlier visits
    are corrected as far as the held outputs allow. Runs are taken one at a time, and wait on the CPU.
    """
    visits, rows, fitted = stops("euler", problem.sigmas), [], problem.fitted
    walks = [Walk.of(probe).to("cpu") for probe in problem.probes]
    for stop, theory in zip(visits, problem.rows(problem.sigmas, nodes), strict=True):
        call = stop.step in nodes
        grams = _weighed(problem, walks, stop, call)
        weights, mean_square = weigh_visit(grams[fitted], theory.tolist(), problem.blocks)
        count = len(weights) // problem.parts
        weights, residual = [short(weight) for weight in weights], short(math.sqrt(mean_square * stop.landing), 4)
        rows.append(Row(stop.step, stop.sigma, call, tuple(weights[:count]), tuple(weights[count:]), residual))
        _advance(problem, walks, stop, rows[-1])
    ends = [walk.walker.x for walk in walks]
    errors = [mean_squares(problem.seen(end), reference.xs[-1]) for end, reference in zip(ends, problem.references, strict=True)]
    decibels = problem.decibels(torch.cat(errors))
    return Fit(Budget(tuple(nodes), round(float(decibels[fitted].mean()), 3), tuple(rows)), decibels, ends)


def given(weights):
    """What stands in the place of ``solve`` where ``weights``, n floats for each visit, are known: taken in turn."""
    left = iter(weights)

    def taken(grams, theory, blocks):
        known = torch.as_tensor(next(left), dtype=torch.float64, device="cpu")
        return known.tolist(), float(residual(grams.sum(0), known)) / len(grams)

    return taken


def _weighed(problem, walks, stop, call):
    """Gram matrices, sample by sample, of what may be weighed at a visit and, last, of the output that lands on the reference.

    Where there is a ``call``, it is made, and ``walks`` hold its output; the first one is the reference's.
    """
    grams = []
    for run, probe in enumerate(problem.probes):
        walk = walks[run].to(probe.x.device)
        if call:
            branches = probe.denoise(walk.at, stop.sigma, problem.branches) if walk.outputs else problem.first_output(run)
            walk.hold(branches, problem)
            walks[run] = walk.to("cpu")
        target = walk.walker.seen(problem.seen).target(stop, problem.reference(run, stop.step + 1))
        grams.append(widened(gram([*map(problem.seen, walk.regressors()), target]), problem.shares(run), problem.parts))
    return torch.cat(grams)


def _advance(problem, walks, stop, row):
    """Lead every run past a visit, with the answer that ``row`` makes there."""
    for run, probe in enumerate(problem.probes):
        walk = walks[run].to(probe.x.device)
        walk.walker.advance(stop, walk.answer(row.mixed(problem.shares(run))))
        walks[run] = walk.to("cpu")


def short(number, digits=DIGITS):
    """``number`` with as many ``digits`` as a file holds of it."""
    return float(f"{number:.{digits}g}")
