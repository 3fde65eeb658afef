"""A calibration from beginning to end: from a few runs of the user's own model to plans and weights that serve all later ones."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from .. import loops
from ..calibrated import Calibrated, describe
from ..calibration_file import Calibration
from ..hosts import stepping
from ..shim import Skipping
from .host import Probe, copied, seeded
from .journal import Journal, Progress
from .ode import calls_of_reference, solve_finely
from .problem import Problem
from .refine import Refinement
from .scales import opened, scales_to_walk
from .search import most_calls, solve_budget
from .theory import Theory
from .unseen import compared, left_out, say_what_is_not_better


def calibrated(
    sampler, denoiser, runs, calls, *, scales, degree, history, low, substeps, walks, refine, start, peak, seed, folder,
    progress,
):  # fmt: skip
    """See ``taylorseer_guider.calibrate``."""
    runs = list(runs)
    budgets = _checked(sampler, runs, calls, history, substeps, walks, refine)
    scales, told = scales_to_walk(sampler.guider.scale, scales, degree)
    fitted = replace(describe(sampler, stepping(sampler), sampler.guider, ()), scales=told)
    with Progress(progress) as bar:
        denoiser = bar.counting(denoiser)
        probes = [Probe(sampler, denoiser, run, seed + n, scale) for n, run in enumerate(runs) for scale in scales]
        sigmas = tuple(_common_schedule(probes, budgets))
        fitted = replace(fitted, sigmas=sigmas)
        start = _earlier(start, fitted)
        output, branches = opened(probes, scales, bool(refine))
        theory = partial(Theory.unaided, sampler, sigmas, told[-1], history)
        out = left_out([len(probe.x) for probe in probes], len(scales))
        problem = Problem(probes, [], stepping(sampler).method, branches, history, low, peak, theory, told, out)
        options = {"history": history, "low": low, "peak": peak, "runs": problem.few}
        options |= {"from": zlib.crc32(start.to_yaml().encode())} if start else {}
        journal = Journal(folder, _job(fitted, problem, substeps, output), options)
        later = [most_calls(count, problem, walks, refine, start) for count in budgets]
        problem = replace(problem, references=_references(problem, substeps, journal, bar, sum(later)))
        fits, unseen = {}, {}
        for n, count in enumerate(budgets):
            bar.expect(sum(later[n:]))
            fits[count] = solve_budget(problem, count, start and start.nearest(count), walks, journal, bar)
            if refine:
                fits[count] = Refinement(problem, fits[count], journal).run(refine, bar)
            unseen[count] = compared(problem, fits[count], bar)
        about = {**_about(problem, scales, substeps, refine, seed), "unseen": unseen}
        calibration = Calibration(fitted, branches, history, {count: found.budget for count, found in fits.items()}, about)
        bar.expect(sum(budgets))
        for count in budgets:
            bar.say(f"{count} calls: check in the sampler itself")
            _require_landing(problem, denoiser, runs[0], seed, calibration, count, fits[count].ends[0])
    say_what_is_not_better(about)
    return calibration


def _earlier(start, fitted):
    """``start``, a Calibration or the path of one, if it is of the sampler and schedule of ``fitted``; else a ValueError."""
    found = start if start is None or isinstance(start, Calibration) else Calibration.load(start)
    if found and (found.fitted.sampler, len(found.fitted.sigmas)) != (fitted.sampler, len(fitted.sigmas)):
        theirs = f"{found.fitted.sampler} over {len(found.fitted.sigmas)} sigmas"
        raise ValueError(f"start: fitted for {theirs}, this is {fitted.sampler} over {len(fitted.sigmas)}; leave it out")
    return found


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
