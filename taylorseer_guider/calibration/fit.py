"""``calibrate``: from a few runs of the user's own model to the plans and weights that serve all later ones."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from ..shim import Skipping
from .file import Calibration
from .probe import Probe, copied, seeded
from .progress import Notes, Progress
from .reference import calls_of_reference, record
from .refine import Refinement
from .runtime import CalibratedRun, describe
from .search import Replay, grown, initial_plan, neighbours, promising
from .stepping import method_of
from .store import Store
from .walk import Problem, fit

FINALISTS = 4  # plans of each budget that are walked with every run


def calibrate(
    sampler, denoiser, runs, calls=8, *,
    history=4, low=False, substeps=4, walks=60, refine=0, peak=2.0, seed=0, folder=None, progress=True,
):  # fmt: skip
    """Solve plans and weights for ``sampler``, whose guider is a TaylorSeerGuider. Returns a Calibration.

    ``denoiser`` is what the sampler takes; ``runs`` are dictionaries of keyword arguments for ``sampler(denoiser, **run)``,
    each started once with the random numbers of its own seed (``seed`` plus its index); their tensors are not changed.

    calls      denoiser calls a run may make; a list shares the reference runs between several budgets
    history    newest outputs that an answer may weigh, which is what later runs hold
    low        weigh 4x4 means of everything too, so that low and high frequencies get weights of their own
    substeps   Heun steps of the reference in each of the host's steps
    walks      plans that a quarter of the runs try with real calls, for each budget, after a search on the recorded reference
    refine     times that each budget's run is followed back by its gradient, to move all of its weights together
    peak       of the PSNR that is reported: the range of what is sampled, 2 for images in [-1, 1]
    folder     keep recordings there, not in memory; a run that was interrupted goes on from what it holds
    progress   show a bar

    Costs about ``2 * substeps`` full runs and then ``walks / 4 * calls`` denoiser calls for each of ``runs``, and ``refine``
    times as many as a run makes, each with its gradient. Raises ValueError for a sampler, guider or schedule that cannot be
    calibrated, with the reason, and where ``refine`` is asked of a denoiser that lets no gradient through.
    """
    method, runs = method_of(sampler), list(runs)
    budgets = _checked(sampler, runs, calls, history, substeps, walks, refine)
    with Progress(progress) as bar:
        probes = [Probe(sampler, denoiser, run, seed + n, bar.tick) for n, run in enumerate(runs)]
        sigmas = _common_schedule(probes)
        problem = Problem(probes, method, sigmas, probes[0].branches(), history, low, peak, Store(folder))
        fitted = describe(sampler, sampler.guider, probes[0].sigmas)
        options = {"history": history, "low": low, "peak": peak, "runs": _few(runs)}
        notes = Notes(folder, _job(fitted, problem, substeps), options)
        search = walks * _few(runs) + FINALISTS * len(runs)
        bar.expect(len(runs) * calls_of_reference(sigmas, substeps) + sum(budgets) * (search + 1 + refine * len(runs)))
        trace = _reference(problem, substeps, bar)
        solved = {}
        for count in budgets:
            shorter = [budget.nodes for budget in solved.values()]
            solved[count] = _solve_budget(problem, trace, count, shorter, walks, seed, notes, bar)
            if refine:
                solved[count] = Refinement(problem, solved[count]).run(refine, bar)
                problem.keep_end(count)
        calibration = Calibration(fitted, problem.branches, history, solved, _about(problem, substeps, refine, seed))
        for count in budgets:
            bar.say(f"{count} calls: check in the sampler itself")
            _require_landing(sampler, denoiser, runs[0], seed, calibration, count, problem)
    return calibration


def _checked(sampler, runs, calls, history, substeps, walks, refine):
    """The budgets, sorted. Raises ValueError for what cannot be asked for."""
    if not isinstance(getattr(sampler, "guider", None), Skipping):
        found = type(getattr(sampler, "guider", None)).__name__
        raise ValueError(f"the sampler's guider is {found}; name taylorseer_guider.TaylorSeerGuider in its guider_config")
    if not runs:
        raise ValueError("runs is empty: give keyword arguments of at least one run to calibrate on")
    budgets = sorted(set(calls)) if isinstance(calls, (Sequence, set)) else [calls]
    named = [("history", history), ("substeps", substeps), ("walks", walks)]
    for name, value in [*(("calls", count) for count in budgets), *named]:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}: give a whole number from 1 up")
    if isinstance(refine, bool) or not isinstance(refine, int) or refine < 0:
        raise ValueError(f"refine={refine!r}: give a whole number from 0 (weights stay as solved) up")
    if refine and torch.is_inference_mode_enabled():
        why = "torch.inference_mode lets no gradient through"
        raise ValueError(f"refine={refine}: {why}; call calibrate outside of it, or give refine=0")
    return budgets


def _common_schedule(probes):
    """The schedule of all runs, as floats. ValueError where they differ or do not fall."""
    sigmas = probes[0].sigmas.double().tolist()
    if any(probe.sigmas.double().tolist() != sigmas for probe in probes):
        raise ValueError("the runs have different schedules; calibrate each on its own")
    if len(sigmas) < 2 or not all(a > b >= 0 for a, b in zip(sigmas, sigmas[1:], strict=False)):
        raise ValueError(f"only a schedule of falling sigmas can be calibrated, not {sigmas[:3]} ... {sigmas[-2:]}")
    return sigmas


def _reference(problem, substeps, bar):
    """Solve every run finely, or take from the store those that an interrupted calibration has solved.

    Returns what plans are compared on: the mean trace and, for each node, how much of an error of x its output follows.
    """
    found = []
    for run, probe in enumerate(problem.probes):
        bar.say(f"reference {run + 1}/{len(problem.probes)}")
        if f"trace-{run}" in problem.store:
            bar.tick(calls_of_reference(problem.sigmas, substeps))
        else:
            keep = partial(problem.keep_reference, run)
            problem.store.put(f"trace-{run}", record(probe, problem.sigmas, substeps, problem.branches, keep))
        found.append(problem.store.get(f"trace-{run}", "cpu"))
    along, square = sum(each["shifts"] for each in found).T
    shifts = (along / square.clamp(min=1e-30)).clamp(0, 1.5)
    return torch.cat([each["trace"] for each in found]).mean(0), shifts.tolist()


def _solve_budget(problem, trace, calls, shorter, walks, seed, notes, bar):
    """The best Budget of ``calls`` calls that ``walks`` walks of some of the runs find; the best few are walked with all of them.

    A walk of a few runs ranks plans as one of all runs does, since a row has a dozen weights and a run thousands of elements.
    """
    count = len(problem.sigmas) - 1
    if calls > count:
        raise ValueError(f"calls={calls}: the schedule has {count} nodes, and each is called once at most")
    bar.say(f"{calls} calls: search on recordings")
    replay = Replay(*trace, problem.branches, problem.history)
    few = replace(problem, probes=problem.probes[: _few(problem.probes)])
    tried = notes.known(calls)
    bar.tick(calls * len(few.probes) * min(len(tried), walks))

    def walked(nodes):
        if nodes not in tried:
            bar.say(f"{calls} calls: plan {len(tried) + 1}, best {max(tried.values(), default=float('nan')):.1f} dB")
            tried[nodes] = notes.put(nodes, fit(few, nodes).db)

    for nodes in promising(replay, initial_plan(problem.sigmas, calls), seed, walks // 4):
        walked(nodes)
    for plan in shorter[-1:]:
        for nodes in grown(plan, calls, count, replay.error, walks // 4):
            walked(nodes)
    for nodes in neighbours(tried, count, walks, replay.error, seed):
        walked(nodes)
    bar.say(f"{calls} calls: weights")
    budget = None
    for nodes in sorted(tried, key=tried.get, reverse=True)[:FINALISTS]:
        found = fit(problem, nodes)
        if budget is None or found.db > budget.db:
            budget = found
            problem.keep_end(calls)
    return budget


def _few(probes):
    """How many of the runs plans are compared on."""
    return -(-len(probes) // 4)


def _require_landing(sampler, denoiser, run, seed, calibration, calls, problem):
    """Raise ValueError where the host's own sampler, using the calibration, does not arrive where its fit did."""
    budget = calibration.budgets[calls]
    fit_ended = problem.end(calls)
    with sampler.guider.following(lambda *_: CalibratedRun(calibration, budget, sampler.guider.settings)), seeded(seed):
        with torch.no_grad():
            ended = sampler(denoiser, **copied(run))
    rounding = 2000 * torch.finfo(ended.dtype).eps
    distance = float((ended.double() - fit_ended.double()).norm() / fit_ended.double().norm().clamp(min=1e-12))
    if distance > min(max(rounding, 1e-3), 0.2):
        raise ValueError(
            f"{type(sampler).__name__} does not step as {problem.method} does: with the weights of {calls} calls its run ends "
            f"{distance:.2g} (relative) away from where the fit ended, so it cannot be calibrated"
        )


def _job(fitted, problem, substeps):
    """What recordings depend on, as plain values: starting points stand for the runs, an output for the model."""
    starts = [float(probe.x.double().sum()) for probe in problem.probes]
    (output,) = problem.probes[0].denoise(problem.probes[0].x, problem.sigmas[0], 1)
    known = {"branches": problem.branches, "substeps": substeps, "starts": starts, "model": f"{float(output.double().sum()):.5g}"}
    return {**vars(fitted), **known}


def _about(problem, substeps, refine, seed):
    shapes = sorted({tuple(probe.x.shape[1:]) for probe in problem.probes})
    return {
        "samples": sum(len(probe.x) for probe in problem.probes), "shapes": [list(shape) for shape in shapes],
        "dtype": str(problem.probes[0].x.dtype).removeprefix("torch."), "reference_substeps": substeps, "refined": refine,
        "psnr_peak": problem.peak, "seed": seed, "torch": str(torch.__version__),
    }  # fmt: skip
