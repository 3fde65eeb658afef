"""Weights moved together, along the gradient of where whole runs end.

``fit`` lands every visit as near to the reference as its weights can. What counts is the end: later calls undo some of the
errors on the way and amplify others. Here the gradient of the runs' mean PSNR is followed back through all denoiser calls of a
run, and L-BFGS (Liu and Nocedal 1989) moves the weights of all visits at once.
"""

import math
from contextlib import suppress

import torch
from torch.utils.checkpoint import checkpoint

from ..forecast import block_means, filled
from .ode import calls_at, stops
from .scales import mixing
from .walk import Walk, fit, given, mean_squares

RIDGE = 1e-6  # of the mean diagonal, once every regressor has unit length
MEMORY = 40  # moves that L-BFGS remembers
KEPT = 1 << 16  # elements of x up to which a call is kept for its gradient; a larger one is made again


class Refinement:
    """The weights that a walk has ``found`` (a Fit), to be moved until its runs end nearer to the reference.

    A move is told in coordinates that are even: a unit of any of them changes x, where its visit leads to, by as much as the
    runs miss the reference by at the end. What an interrupted calibration has reached in its ``journal`` counts. Samples that are
    left out of the fit are followed, too, and of all moves the one that is best for them is kept.
    """

    def __init__(self, problem, found, journal):
        self.problem, self.nodes, self.journal = problem, found.budget.nodes, journal
        self.visits = stops(problem.method, problem.sigmas)
        self.calls = calls_at(self.visits, set(self.nodes))
        self.weights = [torch.tensor([*row.weights, *row.low], dtype=torch.float64) for row in found.budget.rows]
        unit = problem.peak * 10 ** (-found.budget.db / 20)
        self.bases = [unit * _even(each, stop.landing) for each, stop in zip(found.products, self.visits, strict=True)]
        self.best, self.least, self.spent = torch.zeros(sum(map(len, self.weights)), dtype=torch.float64), math.inf, 0

    def run(self, times, bar):
        """The Fit after ``times`` gradients."""
        if earlier := self.journal.move(self.nodes):
            self.best, self.spent = earlier["move"], earlier["spent"]
        move = self.best.clone().requires_grad_()

        def gradient():
            loss, judged = self._descend(move)
            self.spent += 1
            if judged < self.least:
                self.best, self.least = move.detach().clone(), judged
            self.journal.keep_move(self.nodes, self.best, self.spent)
            bar.say(f"{len(self.nodes)} calls: refined {self.spent}/{times}, {self._decibels():.1f} dB")
            return loss

        while self.spent < times:
            left, before = times - self.spent, self.least
            options = {"max_iter": left, "max_eval": left, "history_size": MEMORY, "line_search_fn": "strong_wolfe"}
            with suppress(FloatingPointError):  # a step so large that the denoiser overflows: the best so far stays
                torch.optim.LBFGS([move], **options).step(gradient)
            if self.least == before:
                break
            move.data.copy_(self.best)
        return fit(self.problem, self.nodes, given(self._moved(self.best)))

    def _decibels(self):
        return float(self.problem.decibels(torch.tensor(self.least).exp()))

    def _moved(self, move):
        moves = move.split([len(weights) for weights in self.weights])
        return [weights + basis @ part for weights, basis, part in zip(self.weights, self.bases, moves, strict=True)]

    def _descend(self, move):
        """(the mean over fitted samples of ln(mean square error) at ``move``, the same over those that moves are judged by).

        The gradient of the first becomes ``move.grad``.
        """
        problem, logs, seen = self.problem, [], 0
        fitted = torch.zeros(problem.samples).index_fill(0, torch.tensor(problem.fitted), 1 / len(problem.fitted))
        move.grad = torch.zeros_like(move)
        for run, probe in enumerate(problem.probes):
            end = self._end(run, self._moved(move))
            errors = mean_squares(end, problem.reference(run, -1)).clamp(min=1e-30).log().cpu()
            shares, seen = fitted[seen : seen + len(probe.x)], seen + len(probe.x)
            move.grad += torch.autograd.grad(errors @ shares.to(errors), move)[0]  # of nothing else: the model may have its own
            logs.append(errors.detach())
        logs = torch.cat(logs)
        loss = logs @ fitted.to(logs)
        return loss, float(logs[list(problem.left_out)].mean() if problem.left_out else loss)

    def _end(self, run, weights):
        """The x at which ``run`` ends."""
        walk = Walk.of(self.problem.probes[run])
        for stop, call, row in zip(self.visits, self.calls, weights, strict=True):
            if call:
                branches = self._call(run, walk.at, stop.sigma) if walk.outputs else self.problem.first_output(run)
                walk.hold(branches, self.problem)
            walk.walker.advance(stop, _answer(self._at_scale_of(run, row), walk))
        return walk.walker.x

    def _at_scale_of(self, run, row):
        """The weights of ``row`` at the scale of ``run``."""
        shares, parts = self.problem.shares(run), self.problem.parts
        return row if len(shares) == 1 else mixing(shares, len(row) // len(shares) // parts, parts) @ row

    def _call(self, run, x, sigma):
        """The branches of the output, with the gradient that leads back to ``x``."""
        denoise, count = self.problem.probes[run].denoise, self.problem.branches
        large = x.numel() > KEPT
        return checkpoint(denoise, x, sigma, count, use_reentrant=False) if large else denoise(x, sigma, count)


def _answer(row, walk):
    """``Walk.answer``, for weights that have a gradient."""
    outputs = sum(walk.outputs, [])
    total = _mixed(row, [walk.at, *outputs])
    if walk.means:
        low = _mixed(row[1 + len(outputs) :], [block_means(walk.at), *sum(walk.means, [])])
        total = total + filled(low, total.shape).to(total.dtype)
    return total.to(outputs[0].dtype)


def _mixed(weights, tensors):
    wide = torch.promote_types(tensors[0].dtype, torch.float32)
    weights = weights.to(tensors[0].device, wide)
    return sum(weight * tensor.to(wide) for weight, tensor in zip(weights, tensors, strict=False))


def _even(products, landing):
    """(n, n), whose columns are changes of weights that move the x where a visit leads to by one, apart from each other.

    ``products`` (n, n) are the mean products of what is weighed there.
    """
    size = products.diagonal().clamp(min=torch.finfo(products.dtype).tiny).sqrt()
    scaled = products / size[:, None] / size + RIDGE * torch.eye(len(products), dtype=products.dtype)
    return torch.linalg.inv(torch.linalg.cholesky(scaled)).T / size[:, None] / math.sqrt(landing)
