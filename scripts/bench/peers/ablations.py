"""What GS trains beside weights, one at a time, on our own nodes and weights. Each begins at one of our calibrations.

steps    the sigmas between which x is stepped, all but the first, are trained; the network is told the same. Weights stay
told     the sigma that the network is told at each call is trained. Weights and steps stay
theory   weights are solved anew, shrunk to a theory's instead of to zero, and then refined
weights  weights are refined further: what as many gradients buy without any of it
none     the calibration as it is

The theory is the line through the two newest outputs in sigma^(1/7), which our guider draws without a calibration where it is
told to forecast the denoised output; its other quantities are made from past x, which a calibration does not weigh.
"""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import torch

from taylorseer_guider.calibration.host import Probe
from taylorseer_guider.calibration.journal import Journal, Progress
from taylorseer_guider.calibration.ode import Reference, calls_at, solve_finely, stops
from taylorseer_guider.calibration.problem import Problem
from taylorseer_guider.calibration.refine import Refinement
from taylorseer_guider.calibration.squares import FOLDS, residual, ridge
from taylorseer_guider.calibration.theory import Theory
from taylorseer_guider.calibration.walk import Walk, fit, given
from taylorseer_guider.forecast import RHO, newton_weights
from taylorseer_guider.standalone.config import instantiate_from_config

from ..workloads import own_guider, sampler_of
from .solvers import start
from .trained import Trained, mixed
from .training import OURS, train

KINDS = ("none", "weights", "steps", "told", "theory")
STRENGTHS = tuple(10.0**power for power in range(-9, 1))  # of the ridge
PEAK = 2.0  # of the PSNR


class OwnNodes(Trained):
    """A run of Heun's method as a calibration has it, with ``steps`` (in ln sigma of all nodes but the first) and ``told``.

    Beside these ``tensors`` holds ``sigmas``, ``nodes`` that are called, a row of ``weights`` for each visit, filled up with
    zeros, and ``kept``: branches, outputs held, and whether 4x4 means are weighed.
    """

    groups = {"steps": ("steps",), "told": ("told",)}  # noqa: RUF012

    def asks(self, workload):
        """The branches of an output, from one call."""
        guider, branches = instantiate_from_config(own_guider(workload.scale)), int(self.tensors["kept"][0])

        def ask(x, sigma):
            sigma = x.new_ones(len(x)) * sigma
            asked = guider.prepare_inputs(x, sigma, workload.cond, workload.uc)
            output = workload.network(*asked)
            return output.chunk(2) if branches == 2 else (guider(output, sigma),)

        return ask

    def walk(self, denoise, noise):
        _, history, low = self.tensors["kept"].tolist()
        kept = SimpleNamespace(history=history, low=bool(low))
        walk, called = Walk.of(SimpleNamespace(x=start(noise, self.tensors["sigmas"]).to(noise.dtype))), 0
        for stop, call, row in self._visits():
            if call:
                told = stop.sigma * self.tensors["told"][called].exp()
                walk.hold(list(denoise(walk.at, told.to(noise))), kept)
                called += 1
            regressors = walk.regressors()
            walk.walker.advance(stop, mixed(row[: len(regressors)], regressors))
        return walk.walker.x

    def _visits(self):
        """(Stop, whether it calls, its weights) in order."""
        sigmas = self.tensors["sigmas"]
        moved = sigmas * torch.cat([sigmas.new_zeros(1), self.tensors["steps"], sigmas.new_zeros(1)]).exp()
        walk = stops("heun", sigmas.tolist())
        calls = calls_at(walk, set(self.tensors["nodes"].tolist()))
        for stop, call, row in zip(walk, calls, self.tensors["weights"], strict=True):
            first, last = moved[stop.step], moved[stop.step + 1]
            yield replace(stop, sigma=last if stop.corrector else first, start=first, end=last), call, row


def of_budget(calibration, budget):
    """``OwnNodes`` of a ``budget`` (a Budget) of ``calibration``, with nothing moved."""
    if calibration.fitted.sampler != "HeunEDMSampler":
        raise ValueError(f"sampler={calibration.fitted.sampler}: only a calibration of HeunEDMSampler can be ablated here")
    sigmas = torch.tensor(calibration.fitted.sigmas, dtype=torch.float64)
    rows = [torch.tensor([*row.weights, *row.low], dtype=torch.float64) for row in budget.rows]
    tensors = {
        "sigmas": sigmas, "nodes": torch.tensor(budget.nodes), "weights": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        "kept": torch.tensor([calibration.branches, calibration.history, bool(budget.rows[0].low)]),
        "steps": sigmas.new_zeros(len(sigmas) - 2), "told": sigmas.new_zeros(budget.calls),
    }  # fmt: skip
    return OwnNodes(budget.calls, 0.0, float(sigmas[0]), tensors)


def fit_ablation(calibration, budget, workload, kind, gradients, target, recipe=OURS):
    """The budget of ``budget`` calls of ``calibration`` after ``gradients`` of a ``kind`` of training: an ``OwnNodes``.

    ``workload`` is what may be trained on, ``target`` its exact solutions. "theory" solves ``workload`` finely at all nodes.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: choose one of {', '.join(KINDS)}")
    known = calibration.budget(budget).mixed(newton_weights(calibration.fitted.scales, workload.scale))
    if kind in ("weights", "theory"):
        problem = posed(calibration, known, workload, target, finely=kind == "theory")
        told = [[*row.weights, *row.low] for row in known.rows]
        weigh = toward(theories(calibration, known, workload.scale)) if kind == "theory" else given(told)
        found = fit(problem, known.nodes, weigh)
        with Progress(False) as bar:
            found = Refinement(problem, found, Journal(None, {}, {})).run(gradients, bar)
        return of_budget(calibration, found.budget)
    begun = of_budget(calibration, known)
    if kind == "none":
        return begun
    return train(begun, (kind,), workload, target, gradients, recipe=recipe)


def sample(fitted, workload):
    """x at the end of a run of ``workload``."""
    with torch.no_grad():
        return fitted.walk(fitted.asks(workload), workload.noise)


def posed(calibration, budget, workload, target, finely, substeps=2):
    """The Problem of a calibration whose runs should end at ``target`` and, if ``finely``, follow a fine solution on the way."""
    sampler = sampler_of(workload, {}, steps=len(calibration.fitted.sigmas) - 1)
    run = {"x": workload.noise, "cond": workload.cond, "uc": workload.uc}
    probe = Probe(sampler, workload.network, run, 0)
    if finely:
        solved = solve_finely(probe, substeps, calibration.branches)
        solved = replace(solved, xs=[*solved.xs[:-1], target.cpu()])
    else:
        with torch.no_grad():
            first = probe.denoise(probe.x, probe.sigmas[0], calibration.branches)
        solved = Reference([target.cpu()] * len(probe.sigmas), [branch.cpu() for branch in first], None, None)
    theory = partial(Theory.unaided, sampler, probe.sigmas, workload.scale, calibration.history)
    return Problem([probe], [solved], "heun", calibration.branches, calibration.history, bool(budget.rows[0].low), PEAK, theory)


def theories(calibration, budget, scale):
    """The theory's weights of every visit, in the order of a row's weights and then ``low``."""
    split, held = ([1 - scale, scale] if calibration.branches == 2 else [1.0]), []
    for row in budget.rows:
        held = [row.sigma, *held][: calibration.history] if row.call else held
        at, *others = (sigma ** (1 / RHO) for sigma in (row.sigma, *held[:2]))
        weights = newton_weights(others, at)
        flat = [weight * share for weight in weights for share in split]
        count = len(row.weights) + len(row.low)
        yield torch.tensor([0.0, *flat, *[0.0] * (count - 1 - len(flat))], dtype=torch.float64)


def toward(theory):
    """For ``fit``: least squares shrunk to the next of ``theory``, by as much as does best on samples left out."""
    theory = iter(theory)

    def weigh(grams, *_):
        known, change = next(theory), torch.eye(grams.shape[-1], dtype=grams.dtype)
        change[-1, :-1] = -known  # the target less what theory makes of it
        folds = change @ torch.stack([grams[fold::FOLDS].sum(0) for fold in range(min(len(grams), FOLDS))]) @ change.T
        total = folds.sum(0)
        tried = ridge(total - folds, torch.tensor(STRENGTHS)[:, None])
        best = STRENGTHS[int(residual(folds, tried).sum(-1).argmin())]
        move = ridge(total, best)
        return (known + move).tolist(), float(residual(total, move)) / len(grams)

    return weigh
