"""A budget's solver, moved along the gradient of where runs end.

It begins as `calls` alone: at sigmas with even gaps, and with the weights that theory has for these. What counts is where a run
ends, since later calls undo some of the errors on the way and amplify others. So the gradient of the runs' mean PSNR is followed
back through all denoiser calls of a run, and L-BFGS (Liu and Nocedal 1989) moves sigmas and weights together: theory's weights go
with the sigmas, and what is fitted is how far the answers are from theory's.
"""

import math
from contextlib import suppress

import torch

from .ode import stops
from .solver import Solver
from .squares import differences, least

RIDGE = 1e-6  # of the mean diagonal, once every difference has unit length
LEAST = 1e-2  # of what a mean square difference counts for at least where weights are solved: less than that none does
MEMORY = 40  # moves that L-BFGS remembers
GAP = 0.6  # by how much of itself a gap between two calls grows in a move of one, from `calls` alone
MEET = 1e-2  # in log(sigma): nearer to each other no two calls are
WORST = 0.25  # share of the worst sample in what moves are judged by
NEARBY = 1e-3  # in log(sigma): over which theory's weights are taken for straight


class Spent(Exception):
    """No gradient is left."""


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
        self.gaps = -torch.cat([solver.sigmas, torch.tensor([problem.sigmas[-2]], device="cpu")]).log().diff().clamp(max=0)
        self.free = self.calls if self.calls > 1 else 0  # numbers that move the sigmas
        self.start, self.bases = self._measured()
        count = self.free + sum(base.shape[1] for base in self.bases)
        self.best, self.spent = torch.zeros(count, dtype=torch.float64, device="cpu"), 0
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
            steps = torch.eye(self.calls, dtype=logs.dtype, device="cpu")[1:] * NEARBY if self.free else []
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


def _even(products, landing, blocks):
    """(n, n - blocks), whose columns are changes of weights that move the x where a visit leads to by one, apart from each other.

    ``products`` (n, n) are the mean products of what is weighed there, in ``blocks`` of x and outputs; the sum of each block's
    weights stays, so that a settled image is answered by itself. A difference that is next to nothing here may be more elsewhere.
    """
    moves = differences(len(products), blocks).to(products)
    changed = moves @ products @ moves.T
    size = torch.maximum(changed.diagonal(), LEAST * least(products, changed, blocks)).sqrt()
    size = torch.where(size > 0, size, 1.0)  # of a denoiser whose outputs are x or 0: there is nothing to weigh
    scaled = changed / size[:, None] / size + RIDGE * torch.eye(len(changed), dtype=changed.dtype, device="cpu")
    return moves.T @ (torch.linalg.inv(torch.linalg.cholesky(scaled)).T / size[:, None]) / math.sqrt(landing)
