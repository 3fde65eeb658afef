"""A budget as a solver of few numbers.

It calls at ``calls`` sigmas, and each answer leads in one step of Euler's to the next of them, the last one to 0.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from ..calibration_file import Budget, Row
from ..forecast import block_means, filled
from ..plan import nearest
from .ode import stops
from .walk import Walk, short

KEPT = 1 << 16  # elements of x up to which a call is kept for its gradient; a larger one is made again
LOOK = 0.1  # of sigma: as far as its table must be left behind


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


def _wide(numbers):
    return torch.tensor(numbers, dtype=torch.float64, device="cpu")
