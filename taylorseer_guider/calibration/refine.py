"""A budget as a solver of few numbers, moved along the gradient of where runs end.

It calls at ``calls`` sigmas, and each answer leads in one step of Euler's to the next of them, the last one to 0. It begins as
`calls` alone: at sigmas with even gaps, and with the weights that theory has for these. What counts is where a run ends, since
later calls undo some of the errors on the way and amplify others. So the gradient of the runs' mean PSNR is followed back through
all denoiser calls of a run, and L-BFGS (Liu and Nocedal 1989) moves sigmas and weights together: theory's weights go with the
sigmas, and what is fitted is how far the answers are from theory's.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from ..calibration_file import Budget, Row
from ..forecast import block_means, filled
from ..plan import nearest
from .ode import stops
from .squares import differences, least
from .walk import Walk, short

RIDGE = 1e-6  # of the mean diagonal, once every difference has unit length
LEAST = 1e-2  # of what a mean square difference counts for at least where weights are solved: less than that none does
MEMORY = 40  # moves that L-BFGS remembers
KEPT = 1 << 16  # elements of x up to which a call is kept for its gradient; a larger one is made again
GAP = 0.6  # by how much of itself a gap between two calls grows in a move of one, from `calls` alone
MEET = 1e-2  # in log(sigma): nearer to each other no two calls are
WORST = 0.25  # share of the worst sample in what moves are judged by
LOOK = 0.1  # of sigma: as far as its table must be left behind
NEARBY = 1e-3  # in log(sigma): over which theory's weights are taken for straight


class Spent(Exception):
    """No gradient is left."""


@dataclass(frozen=True)
class Solver:
    """``sigmas`` (N,) float64, falling, at which the denoiser is called, and for each what is weighed in the answer there.

    A row (n,) float64 has the weights of x and of held outputs, newest first, then those of their means, as a file has them.
    """

    sigmas: torch.Tensor
    rows: list

    @classmethod
    def of(cls, sigmas, rows):
        """From floats and the ``Row`` of each of them."""
        return cls(_wide(sigmas), [_wide([*row.weights, *row.low]) for row in rows])

    @classmethod
    def by_theory(cls, problem, sigmas):
        """That of `calls` alone, where it calls at ``sigmas`` (floats)."""
        return cls(_wide(sigmas), problem.rows((*sigmas, 0.0), range(len(sigmas))))

    def ended(self, problem, run, notice=None):
        """The x at which ``run`` of ``problem`` ends. ``notice(walk)`` sees it at each call."""
        walk, probe = Walk.of(problem.probes[run]), problem.probes[run]
        for stop, row in zip(stops("euler", [*self.sigmas, 0.0]), self.rows, strict=True):
            walk.hold(_asked(problem, probe, walk.at, stop.sigma) if walk.outputs else problem.first_output(run), problem)
            if notice:
                notice(walk)
            walk.walker.advance(stop, _answer(problem.mixed(row, run), walk))
        return walk.walker.x


class Refinement:
    """The ``solver`` that a budget begins with, to be moved until runs of ``problem`` end nearer to their references.

    A move is told in coordinates that are even: a unit of any of the weights' changes x, where its answer leads to, by as much as
    the runs miss the reference by at first; a unit of a gap's does so roughly, where ``usual`` is what `calls` alone misses it by
    (as ``mean``), whose error changes by its own size where gaps do. What an interrupted calibration has reached in its
    ``journal`` counts. Every move is judged on all samples, those that are left out of the fit as well: by their mean and, for a
    share (``WORST``), by the worst of them. The best is kept, and the start counts as one of the moves.
    """

    def __init__(self, problem, solver, journal, usual=-math.inf):
        self.problem, self.first, self.journal, self.calls = problem, solver, journal, len(solver.sigmas)
        self.offsets = [row - theory for row, theory in zip(solver.rows, self._rows(solver.sigmas), strict=True)]
        self.gaps = -torch.cat([solver.sigmas, torch.tensor([problem.sigmas[-2]])]).log().diff().clamp(max=0)
        self.free = self.calls if self.calls > 1 else 0  # numbers that move the sigmas
        self.start, self.bases = self._measured()
        self.best, self.spent = torch.zeros(self.free + sum(base.shape[1] for base in self.bases), dtype=torch.float64), 0
        self.least, self._known = self._merit(self.start), (None, None)
        self.size = GAP * math.exp(min(self.mean - usual, 0.0) / 2)  # of a move of the gaps, with which theory's errors change

    @property
    def mean(self):
        """ln of the mean square error that fitted samples have at first."""
        return float(self.start[self.problem.fitted].mean())

    @property
    def unseen(self):
        """The same of samples that are left out, where there are any."""
        return float(self.start[self.problem.judging].mean())

    def run(self, times, bar):
        """The best Solver after ``times`` gradients.

        Those that an interrupted calibration has made are not made again: L-BFGS asks for them once more, at the same moves, is
        told the same, and so goes on as if nothing had happened.
        """
        earlier = self.journal.move(self.calls) or {}
        told = list(earlier.get("told", ()))
        if earlier and len(told) != earlier["spent"]:  # of a version that did not keep them, or gone on from there
            self.best, self.spent, self.least, told = earlier["move"], earlier["spent"], earlier["least"], []
        move = self.best.clone().requires_grad_()

        def gradient():
            if self.spent == times:  # in the middle of a line search
                raise Spent
            if known := self.spent < len(told) and torch.equal(told[self.spent][0], move):
                _, loss, judged, slope = told[self.spent]
                move.grad = slope.clone()
            else:
                loss, judged = self._descend(move)  # which may raise: then the next one that is known is of another move
                told[self.spent :] = [(move.detach().clone(), loss, judged, move.grad.clone())]
            self.spent += 1
            if judged < self.least:
                self.best, self.least = move.detach().clone(), judged
            if not known:
                self.journal.keep_move(self.calls, self.best, self.spent, self.least, told)
            bar.say(f"{self.calls} calls: refined {self.spent}/{times}")
            return loss

        while self.spent < times:
            left, before = times - self.spent, self.least
            options = {"max_iter": left, "max_eval": left, "history_size": MEMORY, "line_search_fn": "strong_wolfe"}
            with suppress(Spent, FloatingPointError):  # a step so large that the denoiser overflows, or calls meet
                torch.optim.LBFGS([move], **options).step(gradient)
            if self.least == before:
                break
            move.data.copy_(self.best)
        return self.at(self.best)

    def at(self, move):
        """The Solver that ``move`` leads to, through which its gradient goes."""
        gaps, *moves = move.split([self.free, *(base.shape[1] for base in self.bases)])
        logs = self.first.sigmas.log()
        if self.free:
            grown = self.gaps * torch.exp(self.size * gaps)
            below = (grown * (self.gaps.sum() / grown.sum())).cumsum(0)[:-1]
            logs = torch.cat([logs[:1], logs[0] - below])
            if logs.detach().diff().max() > -MEET:
                raise FloatingPointError("two calls have met")
        (theory, slopes), off = self._theory(logs.detach()), logs - logs.detach()
        parts = zip(theory, slopes, self.offsets, self.bases, moves, strict=True)
        return Solver(logs.exp(), [row + slope @ off + offset + base @ part for row, slope, offset, base, part in parts])

    def _theory(self, logs):
        """Theory's rows at these log(sigma), and their derivatives (n, N) by it, from differences."""
        if self._known[0] is None or not torch.equal(self._known[0], logs):
            steps = torch.eye(self.calls, dtype=logs.dtype)[1:] * NEARBY if self.free else []
            both = [(self._rows((logs + step).exp()), self._rows((logs - step).exp())) for step in steps]
            here, slopes = self._rows(logs.exp()), []
            for n, row in enumerate(here):
                each = [(above[n] - below[n]) / (2 * NEARBY) for above, below in both]
                slopes.append(torch.stack([torch.zeros_like(row)] * (self.calls - len(each)) + each, 1))
            self._known = logs, (here, slopes)
        return self._known[1]

    def _measured(self):
        """(ln of the mean square error of each sample at first, what a move of each row's weights is told in)."""
        products, errors = [0.0] * self.calls, []
        with torch.no_grad():
            for run in range(len(self.problem.probes)):
                found, fitted = [], self.problem.kept(run)

                def notice(walk, run=run, found=found, fitted=fitted):
                    found.append(self.problem.products(walk, run)[fitted].sum(0) / len(self.problem.fitted))

                errors.append(self.problem.missed(self.first.ended(self.problem, run, notice), run))
                products = [total + each for total, each in zip(products, found, strict=True)]
        errors, visits = torch.cat(errors), stops("euler", [*self.first.sigmas.tolist(), 0.0])
        unit = float((errors[self.problem.fitted].mean() / 2).exp())
        each = zip(products, visits, strict=True)
        return errors, [unit * _even(product, stop.landing, self.problem.blocks) for product, stop in each]

    def _rows(self, sigmas):
        return Solver.by_theory(self.problem, sigmas.tolist()).rows

    def _merit(self, logs):
        return float((1 - WORST) * logs.mean() + WORST * logs.max())

    def _descend(self, move):
        """(the mean over fitted samples of ln(mean square error) at ``move``, what moves are judged by).

        The gradient of the first becomes ``move.grad``.
        """
        problem, logs = self.problem, []
        gradient = torch.zeros_like(move)
        for run in range(len(problem.probes)):
            with torch.enable_grad():
                errors = problem.missed(self.at(move).ended(problem, run), run)
                shares = torch.zeros_like(errors)
                shares[problem.kept(run)] = 1 / len(problem.fitted)
                gradient += torch.autograd.grad(errors @ shares, move)[0]  # of nothing else: the model may have its own
            logs.append(errors.detach())
        move.grad, logs = gradient, torch.cat(logs)
        return logs[problem.fitted].mean(), self._merit(logs)


def _wide(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def budget_of(solver, problem, sigmas):
    """(the Budget that a file has of ``solver``, dB of all samples, where runs end): walked with the numbers as a file has them.

    ``sigmas`` are the host's.
    """
    called, rows = [short(sigma) for sigma in solver.sigmas.tolist()], []
    for n, (sigma, row) in enumerate(zip(called, solver.rows, strict=True)):
        weights, cut = [short(weight) for weight in row.tolist()], len(row) // problem.parts
        rows.append(Row(n, sigma, True, tuple(weights[:cut]), tuple(weights[cut:])))
    kept, runs = Solver.of(called, rows), range(len(problem.probes))
    with torch.no_grad():
        ends = [kept.ended(problem, run) for run in runs]
    decibels = problem.decibels(torch.cat([problem.missed(ends[run], run) for run in runs]).exp())
    db = round(float(decibels[problem.fitted].mean()), 3)
    return Budget(nearest(sigmas[:-1], called), db, tuple(rows), (*called, 0.0)), decibels, [end.cpu() for end in ends]


def _asked(problem, probe, x, sigma):
    """The branches of the output at ``x`` and ``sigma``, with the gradients that lead back to them.

    Where x is large, they are made again on the way back. Of a denoiser that looks its sigma up, whose outputs do not know of it,
    the derivative by sigma is a difference.
    """
    ask = partial(probe.denoise, x, sigma, problem.branches)
    branches = checkpoint(ask, use_reentrant=False) if x.requires_grad and x.numel() > KEPT else ask()
    if not (problem.looked_up and sigma.requires_grad):
        return branches
    with torch.no_grad():
        others = probe.denoise(x, sigma * (1 + LOOK), problem.branches)
        slopes = [other - branch for other, branch in zip(others, branches, strict=True)]
    off = (sigma - sigma.detach()) / (LOOK * sigma.detach())
    return [branch + slope * off for branch, slope in zip(branches, slopes, strict=True)]


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


def _even(products, landing, blocks):
    """(n, n - blocks), whose columns are changes of weights that move the x where a visit leads to by one, apart from each other.

    ``products`` (n, n) are the mean products of what is weighed there, in ``blocks`` of x and outputs; the sum of each block's
    weights stays, so that a settled image is answered by itself. A difference that is next to nothing here may be more elsewhere.
    """
    moves = differences(len(products), blocks).to(products)
    changed = moves @ products @ moves.T
    size = torch.maximum(changed.diagonal(), LEAST * least(products, changed, blocks)).sqrt()
    size = torch.where(size > 0, size, 1.0)  # of a denoiser whose outputs are x or 0: there is nothing to weigh
    scaled = changed / size[:, None] / size + RIDGE * torch.eye(len(changed), dtype=changed.dtype)
    return moves.T @ (torch.linalg.inv(torch.linalg.cholesky(scaled)).T / size[:, None]) / math.sqrt(landing)
