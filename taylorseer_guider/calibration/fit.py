"""A calibration from beginning to end: from a few runs of the user's own model to plans and weights that serve all later ones."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from .. import loops
from ..calibrated import Calibrated, describe
from ..calibration_file import Calibration
from ..hosts import stepping
from ..shim import Skipping
from .host import Probe, copied, seeded
from .journal import Journal, Progress
from .ode import calls_of_reference, solve_finely
from .plans import Replay, grown, initial_plan, neighbours, promising
from .refine import Refinement
from .scales import opened, scales_to_walk
from .walk import Problem, fit

FINALISTS = 4  # plans of each budget that are walked with every run


def calibrated(
    sampler, denoiser, runs, calls, *, scales, degree, history, low, substeps, walks, refine, peak, seed, folder, progress
):  # fmt: skip
    """See ``taylorseer_guider.calibrate``."""
    runs = list(runs)
    budgets = _checked(sampler, runs, calls, history, substeps, walks, refine)
    scales, told = scales_to_walk(sampler.guider.scale, scales, degree)
    fitted = replace(describe(sampler, stepping(sampler), sampler.guider, ()), scales=told)
    with Progress(progress) as bar:
        denoiser = bar.counting(denoiser)
        probes = [Probe(sampler, denoiser, run, seed + n, scale) for n, run in enumerate(runs) for scale in scales]
        fitted = replace(fitted, sigmas=tuple(_common_schedule(probes, budgets)))
        output, branches = opened(probes, scales)
        problem = Problem(probes, [], stepping(sampler).method, branches, history, low, peak, told)
        options = {"history": history, "low": low, "peak": peak, "runs": problem.few}
        journal = Journal(folder, _job(fitted, problem, substeps, output), options)
        later = [_most_calls(count, problem, walks, refine) for count in budgets]
        problem = replace(problem, references=_references(problem, substeps, journal, bar, sum(later)))
        fits = {}
        for n, count in enumerate(budgets):
            bar.expect(sum(later[n:]))
            shorter = [found.budget.nodes for found in fits.values()]
            fits[count] = _solve_budget(problem, count, shorter, walks, seed, journal, bar)
            if refine:
                fits[count] = Refinement(problem, fits[count], journal).run(refine, bar)
        found = {count: found.budget for count, found in fits.items()}
        calibration = Calibration(fitted, branches, history, found, _about(problem, scales, substeps, refine, seed))
        bar.expect(sum(budgets))
        for count in budgets:
            bar.say(f"{count} calls: check in the sampler itself")
            _require_landing(problem, denoiser, runs[0], seed, calibration, count, fits[count].ends[0])
    return calibration


def _most_calls(count, problem, walks, refine):
    """Denoiser calls that a budget of ``count`` calls takes at most, but for those that are made again on the way back.

    Walks have their first output from the reference; the check in the sampler itself has not.
    """
    walked = walks * problem.few + (FINALISTS + refine + bool(refine)) * len(problem.probes)
    return (count - 1) * walked + count


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


def _common_schedule(probes, budgets):
    """The schedule of all runs, as floats. ValueError where they differ, do not fall or are too short for ``budgets``."""
    sigmas = probes[0].sigmas
    if any(probe.sigmas != sigmas for probe in probes):
        raise ValueError("the runs have different schedules; calibrate each on its own")
    if len(sigmas) < 2 or not all(a > b >= 0 for a, b in zip(sigmas, sigmas[1:], strict=False)):
        raise ValueError(f"only a schedule of falling sigmas can be calibrated, not {sigmas[:3]} ... {sigmas[-2:]}")
    if budgets[-1] >= len(sigmas):
        raise ValueError(f"calls={budgets[-1]}: the schedule has {len(sigmas) - 1} nodes, and each is called once at most")
    return sigmas


def _references(problem, substeps, journal, bar, later):
    """The fine solution of every run, or what an interrupted calibration has of it. ``later`` calls come after them."""
    found = [journal.reference(run) for run in range(len(problem.probes))]
    bar.expect(found.count(None) * calls_of_reference(problem.sigmas, substeps) + later)
    for run, probe in enumerate(problem.probes):
        bar.say(f"reference {run + 1}/{len(found)}")
        if found[run] is None:
            found[run] = journal.keep_reference(run, solve_finely(probe, substeps, problem.branches))
    return found


def _replay(problem):
    """What plans are compared on without a call: of each scale the mean trace, and how outputs follow an error of x."""
    at = {}
    for probe, reference in zip(problem.probes, problem.references, strict=True):
        at.setdefault(probe.scale, []).append(reference)
    traces = [torch.cat([reference.trace for reference in references]).mean(0) for references in at.values()]
    shifts = [sum(reference.shifts for reference in references) for references in at.values()]
    return Replay(torch.stack(traces), torch.stack(shifts), problem.branches, problem.history)


def _solve_budget(problem, calls, shorter, walks, seed, journal, bar):
    """The best Fit of ``calls`` calls that ``walks`` walks of some of the runs find; the best few are walked with all of them.

    A walk of a few runs ranks plans as one of all runs does, since a row has a dozen weights and a run thousands of elements.
    """
    count = len(problem.sigmas) - 1
    bar.say(f"{calls} calls: search on recordings")
    replay, few, tried = _replay(problem), problem.first(problem.few), journal.plans(calls)

    def walked(nodes):
        if nodes not in tried:
            bar.say(f"{calls} calls: plan {len(tried) + 1}, best {max(tried.values(), default=float('nan')):.1f} dB")
            tried[nodes] = journal.keep_plan(nodes, fit(few, nodes).budget.db)

    for nodes in promising(replay, initial_plan(problem.sigmas, calls), seed, walks // 4):
        walked(nodes)
    for plan in shorter[-1:]:
        for nodes in grown(plan, calls, count, replay.error, walks // 4):
            walked(nodes)
    for nodes in neighbours(tried, count, walks, replay.error, seed):
        walked(nodes)
    bar.say(f"{calls} calls: weights")
    finalists = sorted(tried, key=tried.get, reverse=True)[:FINALISTS]
    return max((fit(problem, nodes) for nodes in finalists), key=lambda found: found.budget.db)


def _require_landing(problem, denoiser, run, seed, calibration, calls, fit_ended):
    """Raise ValueError where the host's own sampler, using the calibration, does not end where its fit did, at ``fit_ended``.

    ``run`` is that of the problem's first probe.
    """
    sampler, scale = problem.probes[0].sampler, problem.probes[0].scale
    budget = calibration.budgets[calls].mixed(problem.shares(0))
    policy = Calibrated(calibration, budget, sampler.guider.settings.history)
    with sampler.guider.at_scale(scale), loops.following(lambda *_: policy), seeded(seed), torch.no_grad():
        ended = sampler(denoiser, **copied(run))
    rounding = 2000 * torch.finfo(ended.dtype).eps
    ended, fit_ended = ended.cpu(), fit_ended.double()
    distance = float((ended.double() - fit_ended).norm() / fit_ended.norm().clamp(min=1e-12))
    if distance > min(max(rounding, 1e-3), 0.2):
        raise ValueError(
            f"{type(sampler).__name__} does not step as {calibration.fitted.sampler} does: with the weights of {calls} calls its "
            f"run ends {distance:.2g} (relative) away from where the fit ended, so it cannot be calibrated"
        )


def _job(fitted, problem, substeps, output):
    """What recordings depend on, as plain values: starting points stand for the runs, the first ``output`` for the model."""
    starts = [float(probe.x.double().sum()) for probe in problem.probes]
    scales, model = [float(probe.scale) for probe in problem.probes], f"{float(output.double().sum()):.5g}"
    known = {"branches": problem.branches, "substeps": substeps, "starts": starts, "runs at": scales, "model": model}
    return {**vars(fitted), **known}


def _about(problem, scales, substeps, refine, seed):
    shapes = sorted({tuple(probe.x.shape[1:]) for probe in problem.probes})
    return {
        "samples": sum(len(probe.x) for probe in problem.probes) // len(scales), "scales": [float(scale) for scale in scales],
        "shapes": [list(shape) for shape in shapes],
        "dtype": str(problem.probes[0].x.dtype).removeprefix("torch."), "reference_substeps": substeps, "refined": refine,
        "psnr_peak": problem.peak, "seed": seed, "torch": str(torch.__version__),
    }  # fmt: skip
