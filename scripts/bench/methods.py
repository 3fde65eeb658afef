"""Every line of the comparison: a label, a family, a budget of calls and how to sample a workload with it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

from .peers import branches, forecasts, fsampler, solvers, spectrum
from .peers.fitted import evenly
from .workloads import FULL_CALLS, NODES, host

OURS, OURS_FITTED = "ours", "ours, fitted"
SOLVERS, FORECASTS = "fewer steps", "forecasts"  # of others, that need no fit
SOLVERS_ON_PLAN, FITTED = "our nodes", "fitted"  # of others, that look at runs of the model beforehand
GUIDANCE = "cheaper guidance"  # of others, that save branches
UNFITTED = (SOLVERS, FORECASTS)
DEFAULT, CALIBRATED = "TaylorSeerGuider", "TaylorSeerGuider, calibrated"
EPS = {"forecast": {"quantity": "eps"}, "max_order": 2}
DENOISED = {"forecast": {"quantity": "denoised"}}
LATER = {**EPS, "repeat_visits": "later"}  # Heun's corrector forecast, the call at the corrected x
ON_PLAN = ("DPM++2M", "DPM++3M", "UniPC3", "iPNDM4", "LMS4")
SEEN = 8  # pictures that the small fits of others look at
TOLERANCES = (0.8, 0.2, 0.05)  # of our own adaptive guider


@dataclass(frozen=True)
class Method:
    """``begin(workload)`` builds what is needed and gives a function that samples, which is what is timed, and returns x.

    ``budget`` is None where it is not calls that are given but a ``setting``: a tolerance, a cadence, or branches to aim at. What
    decides by what it sees is ``alone``: it gets one picture at a time.
    """

    label: str
    family: str
    budget: int | None
    begin: Callable = field(repr=False)
    setting: float | str | None = None
    alone: bool = False


FULL_RUN = Method("full run", "full run", FULL_CALLS, host)


@torch.no_grad()
def reference(workload, steps=None):
    """The exact solution, near enough: Heun in ``steps`` steps, by default those that the workload asks for."""
    return host(workload, steps=steps or workload.exact_steps)()


def methods(budgets, fits, wants=lambda label: True):
    """(the methods that can be had here whose label ``wants`` takes, at every budget; {missing package: what it has})."""
    steps, no_package = solvers.available()
    foretold, none_either = forecasts.available()
    made = [*ours(budgets, fits), *by_solvers(budgets, steps, fits), *_forecasts(budgets, foretold), *_gated()]
    made = [method for method in made if wants(method.label)]
    return [*made, *fits.methods(budgets, wants), *_guidance(budgets, fits, wants)], no_package | none_either


def ours(budgets, fits):
    for budget in budgets:
        calls, even = {"calls": budget}, {"plan": {"nodes": evenly(budget, NODES)}}
        for label, options in {
            DEFAULT: calls,
            "TaylorSeerGuider, even nodes": even,
            "TaylorSeerGuider, denoised": {**calls, **DENOISED},
            "TaylorSeerGuider, eps 2, later": {**even, **LATER},
        }.items():
            yield Method(label, OURS, budget, partial(host, options=options))
        if fits.calibration and budget in fits.plans:
            options = {"calibration": str(fits.calibration), "calls": budget}
            yield Method(CALIBRATED, OURS_FITTED, budget, partial(host, options=options))
    for tolerance in TOLERANCES:
        adaptive = partial(host, options={"plan": {"tolerance": tolerance}})
        yield Method("TaylorSeerGuider, adaptive", OURS, None, adaptive, tolerance, alone=True)


def by_solvers(budgets, steps, fits):
    for name, solve in steps.items():
        for budget in budgets:
            count = (budget + 1) // 2 if name == "Heun" else budget
            yield Method(name, SOLVERS, budget, at_once(solved, solve, count, None))
    for name in [name for name in ON_PLAN if name in steps]:
        for budget in [budget for budget in budgets if budget in fits.plans]:
            begin = at_once(solved, steps[name], NODES, [*fits.plans[budget], NODES])
            yield Method(f"{name}, our nodes", SOLVERS_ON_PLAN, budget, begin)


def _forecasts(budgets, foretold):
    for name, make in foretold.items():
        for budget in [budget for budget in budgets if budget < NODES]:  # with every node called there is nothing to foretell
            yield Method(name, FORECASTS, budget, at_once(foretell, evenly(budget, NODES), make))
    for budget in [budget for budget in budgets if budget < NODES]:
        for label, nodes, make in spectrum.methods(budget, NODES):
            yield Method(label, FORECASTS, budget, at_once(foretell, nodes, make))


def _gated():
    for label, setting, solve in fsampler.methods(os.environ.get("FSAMPLER_ROOT")):
        gated = setting.startswith("adaptive")
        yield Method(label, FORECASTS, None, at_once(solved, solve, NODES, None), setting, alone=gated)


def _guidance(budgets, fits, wants):
    """At as many branches as guided calls of ``budgets`` have, and on the full run."""
    if fits.batch.scale != 1:
        with torch.no_grad():
            found = branches.methods([2 * budget for budget in budgets], fits.batch.part(slice(SEEN)))
        for label, aim, run in found:
            if wants(label):
                yield Method(label, GUIDANCE, None, at_once(run), aim)


def at_once(sample, *arguments):
    """``begin`` of a method that has nothing to build: ``sample(*arguments, workload)``."""
    return lambda workload: partial(sample, *arguments, workload)


def solved(solve, steps, nodes, workload):
    """x by ``solve`` along a schedule of ``steps``, or along some ``nodes`` of it."""
    sigmas = workload.sigmas(steps)
    return solve(workload.denoise, workload.noise, sigmas if nodes is None else sigmas[nodes])


def foretell(plan, make, workload):
    """x by Heun on our nodes, where those not in ``plan`` are foretold by a forecaster that ``make`` makes."""
    return forecasts.heun(workload.denoise, workload.noise, workload.sigmas(), set(plan).__contains__, make())
