"""What of our calibration brings what, and what GS trains beside it: each from `calls` alone, with as many gradients.

none     `calls` alone
landed   weights that land each answer on the exact solution, without a gradient
sigmas   sigmas are moved, and theory's weights go with them
weights  weights are moved at the sigmas of `calls` alone
both     sigmas and weights are moved together
told     and, as in GS, the sigma that the network is told at each call
"""

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch

from taylorseer_guider.calibration.budgets import Start, alone, landed
from taylorseer_guider.calibration.host import Probe
from taylorseer_guider.calibration.journal import Journal, Progress
from taylorseer_guider.calibration.ode import Reference, solve_finely
from taylorseer_guider.calibration.problem import Problem, mean_squares
from taylorseer_guider.calibration.refine import LEAST, NEARBY, Refinement
from taylorseer_guider.calibration.solver import Solver
from taylorseer_guider.calibration.unseen import left_out

from ..workloads import sampler_of

KINDS = ("none", "landed", "sigmas", "weights", "both", "told")
HISTORY, PEAK = 5, 2.0  # outputs that are weighed, as in our calibration; of the PSNR


class Asking(Problem):
    """A Problem whose runs ask for their first output, too: it may be told another sigma."""

    def first_output(self, run):
        return self.probes[run].denoise(self.probes[run].x, self.sigmas[0], self.branches)


@dataclass(frozen=True)
class Told(Solver):
    """A Solver of one run that tells the network another sigma at each call, by ``apart`` (N,) in log(sigma)."""

    apart: torch.Tensor

    def ended(self, problem, run, notice=None):
        probe = problem.probes[run]

        def denoise(x, sigma, branches):
            call = (self.sigmas - sigma).abs().argmin()
            return probe.denoise(x, sigma * self.apart[call].exp(), branches)

        return super().ended(replace(problem, probes=[SimpleNamespace(x=probe.x, denoise=denoise)]), run, notice)


class Part(Refinement):
    """A Refinement of one run that moves what a ``kind`` says; a unit of what is told moves where it ends by what it misses."""

    def __init__(self, kind, *arguments):
        super().__init__(*arguments)
        told = self._units() if kind == "told" else torch.zeros(self.calls)
        self.units = torch.cat([torch.ones_like(self.best), told])
        self.units[: self.free] *= kind != "weights"
        self.units[self.free : -self.calls] *= kind != "sigmas"
        self.best = torch.zeros_like(self.units)

    @torch.no_grad()
    def _units(self):
        plain, *ends = (
            Told(self.first.sigmas, self.first.rows, apart).ended(self.problem, 0)
            for apart in NEARBY * torch.eye(self.calls + 1, dtype=torch.float64)[:, 1:]
        )
        moved = torch.stack([mean_squares(end, plain).mean().sqrt() for end in ends]).cpu() / NEARBY
        return math.exp(self.mean / 2) / moved.clamp(min=LEAST * moved.max())

    def at(self, move):
        known, told = (self.units * move).split([len(move) - self.calls, self.calls])
        solver = super().at(known)
        return Told(solver.sigmas, solver.rows, told)


def fit_ablation(workload, calls, kind, gradients, target):
    """The Solver of ``calls`` calls after ``gradients`` of a ``kind``. ``target`` are exact solutions of ``workload``."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: choose one of {', '.join(KINDS)}")
    problem = posed(workload, target)
    sigmas = Start(None, problem).even(calls)
    begun = Solver.by_theory(problem, sigmas)
    if kind == "none":
        return begun
    if kind == "landed":
        solved = solve_finely(problem.probes[0], Start(None, problem).grid([calls]), 1, problem.branches)
        solver, _ = landed(replace(problem, references=[replace(solved, xs=[*solved.xs[:-1], target.cpu()])]), sigmas)
        return solver
    with Progress(False) as bar:
        return Part(kind, problem, begun, Journal(None, {}, {})).run(gradients, bar)


@torch.no_grad()
def sample(solver, workload):
    """x at the end of a run of ``workload``."""
    return solver.ended(posed(workload, branches=len(solver.rows[0]) - 1), 0)


def posed(workload, target=None, branches=None):
    """The Problem of a calibration on ``workload``: one run that should end at ``target``, whose outputs have ``branches``."""
    run = {"x": workload.noise, "cond": workload.cond, "uc": workload.uc}
    probe = Probe(sampler_of(workload, {}), workload.network, run, 0)
    _, branches, follows = (None, branches, True) if branches else probe.opening(True)
    references, sigmas = [] if target is None else [Reference([target.cpu()], [])], tuple(probe.sigmas)
    told, out = (float(workload.scale),), left_out([len(probe.x)], 1)
    theory, looked_up = alone(sigmas, HISTORY), not follows
    return Asking([probe], references, branches, HISTORY, False, PEAK, theory, told, sigmas, out, looked_up=looked_up)
