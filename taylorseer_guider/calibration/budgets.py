"""A budget from beginning to end: what it begins with, and what it is refined to."""

import zlib
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch

from ..calibration_file import Calibration
from ..plan import APART, evenly
from ..reschedule import straightened
from ..settings import Settings
from .refine import Refinement
from .solver import KEPT, Solver
from .theory import policy_over, weights_of
from .walk import fit

CLEAR = 6.0  # dB by which weights that land must be nearer: to what they were fitted to they are nearer than to all else


def alone(sigmas, history):
    """What ``Problem.theory`` is for a host's schedule ``sigmas``: the weights of `calls` alone where each visit is called."""
    return partial(_alone, sigmas[-2], history)


def _alone(last, history, sigmas, nodes, scale):
    """Each answer leads to the next call, and the last one to where the polynomial is at the host's ``last`` sigma."""
    *called, end = sigmas
    closes = (last, end) if last < called[-1] * (1 - APART) else (end,)
    schedule = (*called, *closes)
    weights = weights_of(policy_over(schedule, Settings(calls=len(called)), scale), schedule, nodes, history)
    return [*weights[: len(called) - 1], weights[-1]]


class Start:
    """What is known beforehand: an earlier Calibration, or the path of one, or None. ValueError where it is of other runs."""

    def __init__(self, earlier, fitted):
        found = earlier if earlier is None or isinstance(earlier, Calibration) else Calibration.load(earlier, "start")
        if found and found.fitted.guider != fitted.guider:
            raise ValueError(f"start: fitted for {found.fitted.guider}, this is {fitted.guider}; leave it out")
        self.earlier, self.fitted = found, fitted

    @property
    def checksum(self):
        return zlib.crc32(self.earlier.to_yaml().encode()) if self.earlier else 0

    def even(self, calls):
        """The sigmas of `calls` alone."""
        return list(evenly(self.fitted.sigmas[:-1], calls).values())

    def grid(self, budgets):
        """All sigmas that `calls` alone calls at with ``budgets``, and the host's where those leave wider gaps, down to 0."""
        *nodes, _ = self.fitted.sigmas
        called = {sigma for calls in budgets for sigma in self.even(calls)}
        grid = sorted({*nodes, *called}, reverse=True)
        for above, sigma, below in zip(nodes, nodes[1:], nodes[2:], strict=False):
            at = grid.index(sigma)
            if sigma not in called and grid[at - 1] / grid[at + 1] <= min(above / sigma, sigma / below):
                grid.remove(sigma)
        return (*grid, 0.0)

    def budget(self, calls):
        """The earlier Budget whose number of calls is nearest, with a row for each of them; None if there is none."""
        if self.earlier is None:
            return None
        near, fitted = self.earlier.nearest(calls), self.earlier.fitted
        if near.sigmas or len(fitted.scales) > 1:
            return replace(near, rows=tuple(row for row in near.rows if row.call))
        return straightened(near, fitted, self.earlier.branches, self.earlier.history)

    def solvers(self, problem, calls):
        """[the Solver that is known from ``earlier``]: with its sigmas, and its weights where they are of the same."""
        if (budget := self.budget(calls)) is None:
            return []
        sigmas = resampled([row.sigma for row in budget.rows], calls, self.fitted.sigmas)
        if any(a <= b for a, b in pairwise(sigmas)):  # of a schedule that began higher
            return []
        ours, theirs = Solver.by_theory(problem, sigmas), Solver.of(sigmas, budget.rows)
        told = self.earlier.branches, self.earlier.fitted.scales
        alike = told == (problem.branches, problem.scales) and list(map(len, theirs.rows)) == list(map(len, ours.rows))
        return [theirs if alike else ours]


def resampled(sigmas, calls, schedule):
    """``calls`` sigmas that fall as ``sigmas`` do, from the first to the last above 0 of ``schedule``."""
    if len(sigmas) == calls and sigmas[0] == schedule[0]:
        return sigmas
    logs = torch.tensor([*sigmas, min(sigmas[-1], schedule[-2])], dtype=torch.float64, device="cpu").log()
    places = torch.linspace(0, len(logs) - 1, calls + 1, dtype=torch.float64, device="cpu")[:-1]
    below = places.long().clamp(max=len(logs) - 2)
    found = (logs[below] + (places - below) * (logs[below + 1] - logs[below])).exp().tolist()
    return [schedule[0], *found[1:]]


def most_calls(calls, problem, refine, start):
    """Denoiser calls that a budget of ``calls`` calls takes at most.

    Walks have their first output from the reference; the check in the sampler itself has not. Where x is large, a gradient makes
    each call again.
    """
    runs = len(problem.probes)
    begun = 3 + bool(start.earlier) + (len(problem.scales) > 1)
    again = sum(probe.x.numel() > KEPT for probe in problem.probes)
    return (calls - 1) * ((begun + refine + 1) * runs + refine * again) + calls


def solved(problem, calls, start, refine, journal, bar):
    """(the best Solver of ``calls`` calls after ``refine`` gradients, dB (S,) of `calls` alone).

    It begins with the better of `calls` alone and the ``start``; or with weights that land each answer on the reference, where
    those are clearly better: they are nearer to the fitted samples than to others, and less is gained from there.
    """
    bar.say(f"{calls} calls: `calls` alone")
    sigmas = start.even(calls)
    first = Refinement(problem, Solver.by_theory(problem, sigmas), journal)
    known = [Refinement(problem, solver, journal, first.mean) for solver in start.solvers(problem, calls)]
    best = min([first, *known], key=lambda each: each.unseen)
    solver, reached = landed(problem, sigmas)
    if float(reached[problem.judging].mean()) > problem.decibels(torch.tensor(best.unseen, device="cpu").exp()) + CLEAR:
        best = Refinement(problem, solver, journal, first.mean)
    found = first.start if len(problem.scales) == 1 else _at_their_scales(problem, sigmas)
    return best.run(refine, bar), problem.decibels(found.exp())


def landed(problem, sigmas):
    """(the Solver at ``sigmas`` that lands each answer on the reference, near to `calls` alone, dB of all samples (S,))."""
    schedule, nodes = (*sigmas, 0.0), range(len(sigmas))
    over = replace(problem, sigmas=schedule, references=[reference.over(schedule) for reference in problem.references])
    found = fit(over, nodes)
    return Solver.of(sigmas, found.budget.rows), found.decibels


def _at_their_scales(problem, sigmas):
    """ln of the mean square error of each sample (S,) where `calls` alone leads it, at its own scale: not of a polynomial."""
    found = []
    for run, probe in enumerate(problem.probes):
        own = replace(problem, scales=(float(probe.scale),))
        with torch.no_grad():
            found.append(own.missed(Solver.by_theory(own, sigmas).ended(own, run), run))
    return torch.cat(found)
