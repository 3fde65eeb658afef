"""Every line of the comparison: a label, a family, a budget of calls and how to sample a workload with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from taylorseer_guider import Calibration, calibrate
from taylorseer_guider.standalone.config import instantiate_from_config

from .peers import fitted, forecasts, solvers
from .peers.fitted import evenly
from .workloads import NODES, own_guider

OURS, SOLVERS, FORECASTS = "ours", "fewer steps", "forecasts"
SOLVERS_ON_PLAN, FORECASTS_ON_PLAN = "our nodes", "forecasts, our plan"
DEFAULT, CALIBRATED = "TaylorSeerGuider", "TaylorSeerGuider, calibrated"
EPS = {"forecast": {"quantity": "eps"}, "max_order": 2}
DENOISED = {"forecast": {"quantity": "denoised"}}
LATER = {**EPS, "repeat_visits": "later"}  # Heun's corrector forecast, the call at the corrected x
ON_PLAN = ("Euler", "DPM++2M", "DPM++3M", "UniPC3", "iPNDM4", "LMS4")
TOLERANCES = (0.8, 0.4, 0.2, 0.1, 0.05)  # of our own adaptive guider
AGREEMENTS = (0.2, 1.0)  # of FSampler's two orders


@dataclass(frozen=True)
class Method:
    """``begin(workload)`` builds what is needed and gives a function that samples, which is what is timed, and returns x.

    ``budget`` is None where the run itself decides how many calls it makes, by ``setting``, a tolerance.
    """

    label: str
    family: str
    budget: int | None
    begin: Callable = field(repr=False)
    setting: float | None = None


@dataclass
class Fit:
    """What is known of a model at one scale before the held-out batch is seen."""

    calibration: Path | None  # for this scale
    plans: dict  # budget -> nodes to call, of this calibration or of the one with the nearest scale
    recording: fitted.Recording


def sampler_of(workload, options=None, solver="HeunEDMSampler", steps=NODES):
    """A sampler of the standalone host: with our guider and its ``options``, or with its own where they are None."""
    guider = own_guider(workload.scale)
    if options is not None:
        guider = {"target": "taylorseer_guider.TaylorSeerGuider", "params": {"scale": workload.scale, **options}}
    edm = {"target": "taylorseer_guider.standalone.discretization.EDMDiscretization", "params": workload.edm}
    params = {"num_steps": steps, "discretization_config": edm, "guider_config": guider}
    return instantiate_from_config({"target": f"taylorseer_guider.standalone.sampling.{solver}", "params": params})


def host(workload, **choices):
    """A run of ``sampler_of`` on ``workload``, begun: a function that samples."""
    sampler = sampler_of(workload, **choices)
    return partial(sampler, workload.network, workload.noise, workload.cond, workload.uc)


def fit(name, scale, files, budgets, folder, crops=8):
    """Fit what is fitted. The mixture is calibrated on the spot; the embedded model brings its calibrations as ``files``."""
    batch = training(name, scale, crops)
    found = {Calibration.load(path).fitted.scale: Path(path) for path in files}
    if name == "mixture":
        found = {scale: calibrated(batch, [budget for budget in budgets if budget < NODES], folder)}
    near = Calibration.load(found[min(found, key=lambda other: abs(other - scale))]) if found else None
    plans = {budget: solved.nodes for budget, solved in near.budgets.items()} if near else {}
    return Fit(found.get(scale), plans, fitted.record(batch))


def calibrated(batch, budgets, folder, walks=8, refine=16):
    """Calibrate on ``batch`` and return the file."""
    sampler = sampler_of(batch, {})
    runs = [{"x": batch.noise, "cond": batch.cond, "uc": batch.uc}]
    path = folder / f"{batch.name}_{batch.scale:g}_calibration.yaml"
    calibrate(sampler, batch.network, runs, calls=budgets, low=True, walks=walks, refine=refine, progress=False).save(path)
    return path


def methods(budgets, fit):
    """(every method that can be had here, at every budget it can have; {missing package: what it has})."""
    steps, no_package = solvers.available()
    foretold, none_either = forecasts.available()
    made = [method for budget in budgets for method in _ours(budget, fit)]
    for tolerance in TOLERANCES:
        adaptive = partial(host, options={"plan": {"tolerance": tolerance}})
        made += [Method("TaylorSeerGuider, adaptive", OURS, None, adaptive, tolerance)]
    for budget in budgets:
        for name, solve in steps.items():
            count = (budget + 1) // 2 if name == "Heun" else budget
            made.append(Method(name, SOLVERS, budget, at_once(_solve, solve, schedule(count))))
        for name in [name for name in ON_PLAN if name in steps and budget in fit.plans]:
            nodes = [*fit.plans[budget], NODES]
            made.append(Method(f"{name}, our nodes", SOLVERS_ON_PLAN, budget, at_once(_solve, steps[name], schedule()[nodes])))
        if budget < NODES:  # with every node called there is nothing to foretell: all are our default
            made += _forecasts(budget, foretold, fit)
    for order in (2, 3, 4):
        for tolerance in AGREEMENTS:
            made.append(Method(f"FSampler {order}", FORECASTS, None, at_once(_fsampler, order, tolerance), tolerance))
    return made, no_package | none_either


def _ours(budget, fit):
    calls, even = {"calls": budget}, {"plan": {"nodes": evenly(budget, NODES)}}
    for label, options in {
        DEFAULT: calls,
        "TaylorSeerGuider, even nodes": even,
        "TaylorSeerGuider, denoised": {**calls, **DENOISED},
        "TaylorSeerGuider, eps 2, later": {**even, **LATER},
    }.items():
        yield Method(label, OURS, budget, partial(host, options=options))
    if fit.calibration and budget in fit.plans:
        options = {"calibration": str(fit.calibration), "calls": budget}
        yield Method(CALIBRATED, OURS, budget, partial(host, options=options))


def _forecasts(budget, foretold, fit):
    even = evenly(budget, NODES)
    for name, make in foretold.items():
        yield Method(name, FORECASTS, budget, at_once(_foretell, even, make))
    searched = fitted.budcache(fit.recording, budget)
    yield Method("reuse, searched (BudCache)", FORECASTS, budget, at_once(_foretell, searched, forecasts.Reuse))
    yield Method("L2P", FORECASTS, budget, at_once(_foretell, even, _linear(even, fit)))
    if budget in fit.plans:
        plan = fit.plans[budget]
        yield Method("L2P, our plan", FORECASTS_ON_PLAN, budget, at_once(_foretell, plan, _linear(plan, fit)))


def _linear(plan, fit):
    rows = fitted.l2p(fit.recording, plan)
    return lambda: forecasts.Linear(rows, fitted.HISTORY)


def at_once(sample, *arguments):
    """``begin`` of a method that has nothing to build: ``sample(*arguments, workload)``."""
    return lambda workload: partial(sample, *arguments, workload)


def _solve(solve, sigmas, workload):
    """``sigmas(workload)`` are those of the run."""
    return solve(workload.denoise, workload.noise, sigmas(workload))


def _foretell(plan, make, workload):
    return forecasts.heun(workload.denoise, workload.noise, workload.sigmas(), set(plan).__contains__, make())


def _fsampler(order, tolerance, workload):
    sampler = forecasts.FSampler(order, tolerance, NODES)
    return forecasts.heun(workload.denoise, workload.noise, workload.sigmas(), sampler.wanted, sampler)


@torch.no_grad()
def reference(workload, steps):
    """The exact solution, near enough: Heun in ``steps`` steps."""
    return host(workload, steps=steps)()
