"""A calibration from beginning to end: from a few runs of the user's own model to solvers that serve all later ones."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from .. import loops
from ..calibrated import describe, policy_for
from ..calibration_file import MOST_HELD, Calibration
from ..hosts import stepping
from ..settings import Settings
from ..shim import Skipping
from ..values import brief, plain, positive_number, whole_number
from .budgets import Start, alone, most_calls, solved
from .host import Probe, copied, seeded
from .journal import Journal, Progress
from .ode import EULER, calls_of_reference, solve_finely
from .problem import Problem
from .scales import opened, scales_to_walk
from .solver import budget_of
from .unseen import compared, left_out, say

logger = logging.getLogger(__name__)
REPEATED = 100.0  # times its rounding: further apart, one question was answered in two ways


def calibrated(
    sampler, denoiser, runs, calls, *, scales, degree, history, low, substeps, refine, start, peak, seed, folder, progress,
):  # fmt: skip
    """See ``taylorseer_guider.calibrate``."""
    runs, budgets = _checked(sampler, denoiser, runs, calls)
    _check_numbers(history, substeps, refine, peak, seed, low, folder)
    scales, told = scales_to_walk(sampler.guider.scale, scales, degree)
    fitted = replace(describe(sampler, stepping(sampler), sampler.guider, ()), sampler=EULER, scales=told)
    with Progress(progress) as bar:
        denoiser = bar.counting(denoiser)
        probes = [Probe(sampler, denoiser, run, seed + n, scale) for n, run in enumerate(runs) for scale in scales]
        if low and probes[0].x.ndim < 3:
            raise ValueError(
                f"low=True: x is {tuple(probes[0].x.shape)}, and means over blocks need a height and a width; leave it out"
            )
        _warn_of_copies(probes[:: len(scales)], runs)
        fitted = replace(fitted, sigmas=tuple(_common_schedule(probes, budgets)))
        start = Start(start, fitted)
        output, branches, follows = opened(probes, scales, bool(refine))
        theory, out = alone(fitted.sigmas, history), left_out([len(probe.x) for probe in probes], len(scales))
        problem = Problem(
            probes, [], branches, history, low, peak, theory, told, fitted.sigmas, out, looked_up=not follows
        )  # fmt: skip
        grid = start.grid(budgets)
        options = {"history": history, "low": low, "peak": peak, "from": start.checksum}
        journal = Journal(folder, _job(fitted, problem, substeps, output, budgets, runs), options)
        later = [most_calls(count, problem, refine, start) for count in budgets]
        problem = replace(problem, references=_references(problem, grid, substeps, output, journal, bar, sum(later)))
        found, unseen, ends = {}, {}, {}
        for n, count in enumerate(budgets):
            bar.expect(sum(later[n:]))
            solver, begun = solved(problem, count, start, refine, journal, bar)
            found[count], decibels, ends[count] = budget_of(solver, problem, fitted.sigmas)
            unseen[count] = compared(problem, decibels, begun)
        about = {**_about(sampler, problem, scales, substeps, refine, seed), "unseen": unseen}
        calibration = Calibration(fitted, branches, history, found, about)
        bar.expect(sum(budgets))
        for count in budgets:
            bar.say(f"{count} calls: check in the sampler itself")
            _require_landing(problem, denoiser, runs[0], seed, calibration, count, ends[count][0])
    say(about)
    return calibration


def _checked(sampler, denoiser, runs, calls):
    """(the runs, the budgets, sorted). Raises ValueError for what cannot be asked for."""
    if not isinstance(getattr(sampler, "guider", None), Skipping):
        found = type(getattr(sampler, "guider", None)).__name__
        raise ValueError(f"the sampler's guider is {found}; name taylorseer_guider.TaylorSeerGuider in its guider_config")
    if not callable(denoiser):
        raise ValueError(f"denoiser={brief(denoiser)}: give what the sampler calls")
    if not isinstance(runs, Iterable) or isinstance(runs, (str, Mapping)):
        raise ValueError(f"runs={brief(runs)}: give a list of dictionaries, the keyword arguments of a run each")
    runs = list(runs)
    if not runs:
        raise ValueError("runs is empty: give keyword arguments of at least one run to calibrate on")
    for n, run in enumerate(runs):
        if not hasattr(run, "keys"):
            raise ValueError(f"run {n}={brief(run)}: give a dictionary of the sampler's keyword arguments")
    calls = plain(calls)
    budgets = list(calls) if isinstance(calls, Iterable) and not isinstance(calls, (str, Mapping)) else [calls]
    if not budgets:
        raise ValueError(f"calls={calls!r}: give a number of calls, or a list of them")
    for count in map(plain, budgets):
        whole_number("calls", count, 1, "how many calls a run makes")
    return runs, sorted({int(count) for count in budgets})


def _check_numbers(history, substeps, refine, peak, seed, low, folder):
    """Raises ValueError for options that are out of range."""
    whole_number("history", history, 1, "outputs that an answer may weigh")
    whole_number("substeps", substeps, 1, "steps of the reference between two sigmas")
    whole_number("refine", refine, 0, "gradients of each budget; 0: none")
    if history > MOST_HELD:
        raise ValueError(f"history={history}: {MOST_HELD} outputs may be weighed at most")
    positive_number("peak", peak, "the range of a sample's values, such as 2.0 for pictures in [-1, 1]")
    if refine and torch.is_inference_mode_enabled():
        why = "torch.inference_mode lets no gradient through"
        raise ValueError(f"refine={refine}: {why}; call calibrate outside of it, or give refine=0")
    whole_number("seed", seed, -(2**63), "that of the random numbers of the first run", 2**64 - 1)
    if low not in (True, False):
        raise ValueError(f"low={low!r}: give true or false")
    if folder is not None and not (isinstance(folder, (str, os.PathLike)) and os.fspath(folder)):
        raise ValueError(f"folder={folder!r}: give a folder for recordings, or leave it out")


def _warn_of_copies(probes, runs):
    """Have the log say how many of ``runs``, asked by ``probes``, are the same as an earlier one: these teach nothing more."""
    seen = [(float(probe.x.double().sum()), *_sums(run), *_words(run)) for probe, run in zip(probes, runs, strict=True)]
    copies = [n for n, one in enumerate(seen) if one in seen[:n]]
    if copies:
        logger.warning(
            "%d of %d runs are copies of others (run %d of run %d): they teach nothing more, and what is left out may be "
            "in the fit; give other noise, or other conditions", len(copies), len(runs), copies[0], seen.index(seen[copies[0]]),
        )  # fmt: skip


def _common_schedule(probes, budgets):
    """The schedule of all runs, as floats. ValueError where they differ, do not fall or are too short for ``budgets``."""
    sigmas = probes[0].sigmas
    if any(probe.sigmas != sigmas for probe in probes):
        raise ValueError("the runs have different schedules; calibrate each on its own")
    if len(sigmas) < 2 or sigmas[-1] != 0 or not all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False)):
        raise ValueError(f"only a schedule of sigmas that fall to 0 can be calibrated, not {sigmas[:3]} ... {sigmas[-2:]}")
    if budgets[-1] >= len(sigmas):
        raise ValueError(f"calls={budgets[-1]}: the schedule has {len(sigmas) - 1} nodes, and each is called once at most")
    return sigmas


def _references(problem, grid, substeps, output, journal, bar, later):
    """The fine solution of every run, or what an interrupted calibration has of it. ``later`` calls come after them.

    ``output`` is the first of the first run, which is asked for again: the log warns where it is another one now.
    """
    found = [journal.reference(run) for run in range(len(problem.probes))]
    bar.expect(found.count(None) * calls_of_reference(grid, substeps) + later)
    for run, probe in enumerate(problem.probes):
        bar.say(f"reference {run + 1}/{len(found)}")
        if found[run] is None:
            found[run] = journal.keep_reference(run, solve_finely(probe, grid, substeps, problem.branches))
        if run == 0:
            _warn_of_another(output, probe.guided([branch.to(output.device) for branch in found[run].first]))
    return found


def _warn_of_another(output, again):
    """Have the log say where one question was answered in two ways."""
    apart = float((again.double() - output.double()).norm() / output.double().norm().clamp(min=1e-12))
    if apart > REPEATED * torch.finfo(output.dtype).eps:
        logger.warning(
            "the first output was another one, %.2g (relative) away, when it was asked for again: put the model in eval mode, "
            "and take out what else is random in it", apart,
        )  # fmt: skip


def _require_landing(problem, denoiser, run, seed, calibration, calls, fit_ended):
    """Raise ValueError where the host's own sampler, using the calibration, does not end where its fit did, at ``fit_ended``.

    ``run`` is that of the problem's first probe.
    """
    probe = problem.probes[0]
    sampler, guider = probe.sampler, probe.sampler.guider
    with guider.at_scale(probe.scale), seeded(seed), torch.no_grad():
        ours = describe(sampler, stepping(sampler), guider, probe.sigmas)
        policy = policy_for(calibration, Settings(calls=calls), ours, stepping(sampler), probe.dtype)
        with loops.following(lambda *_: policy):
            ended = sampler(denoiser, **copied(run))
    eps = max(torch.finfo(dtype).eps for dtype in (probe.x.dtype, ended.dtype, problem.references[0].first[0].dtype))
    ended, fit_ended = ended.cpu(), fit_ended.double()
    size = float(fit_ended.norm().clamp(min=1e-12))
    noise = 4 * eps * float(probe.x.double().norm()) / size  # that of x at its largest, of which the end may be a small part
    distance = float((ended.double() - fit_ended).norm()) / size
    if not distance <= min(max(2000 * eps, 1e-3) + noise, 0.2):
        raise ValueError(
            f"{type(sampler).__name__} does not step as it is thought to: with the weights of {calls} calls its run ends "
            f"{distance:.2g} (relative) away from where the fit ended, so it cannot be calibrated; or the denoiser is random: is "
            "its model in eval mode?"
        )


def _job(fitted, problem, substeps, output, budgets, runs):
    """What recordings depend on, as plain values: sums over tensors stand for the runs, the first ``output`` for the model."""
    starts = [float(probe.x.double().sum()) for probe in problem.probes]
    scales, model = [float(probe.scale) for probe in problem.probes], f"{float(output.double().sum()):.5g}"
    known = {"branches": problem.branches, "substeps": substeps, "starts": starts, "runs at": scales, "model": model}
    known["runs"] = [list(_sums(run)) for run in runs]
    return {**vars(fitted), **known, "budgets": budgets}


def _sums(run):
    """A sum over each tensor of a ``run`` that tells it from others, as text."""
    for flat in (leaf.detach().flatten().to("cpu", torch.float64) for leaf in _leaves(run) if isinstance(leaf, torch.Tensor)):
        places = torch.arange(1, len(flat) + 1, dtype=flat.dtype, device=flat.device)
        yield f"{float(flat @ places.cos()):.5g}"


def _words(run):
    """What else a ``run`` has, such as prompts, as text."""
    return [repr(leaf) for leaf in _leaves(run) if not isinstance(leaf, torch.Tensor)]


def _leaves(value):
    """What is inside dictionaries, lists and tuples."""
    if not isinstance(value, (dict, list, tuple)):
        yield value
        return
    for inner in value.values() if isinstance(value, dict) else value:
        yield from _leaves(inner)


def _about(sampler, problem, scales, substeps, refine, seed):
    shapes = sorted({tuple(probe.x.shape[1:]) for probe in problem.probes})
    return {
        "sampler": type(sampler).__name__, "samples": problem.samples // len(scales), "scales": [float(each) for each in scales],
        "shapes": [list(shape) for shape in shapes],
        "dtype": str(problem.probes[0].x.dtype).removeprefix("torch."), "reference_substeps": substeps, "refined": refine,
        "psnr_peak": problem.peak, "seed": seed, "torch": str(torch.__version__),
    }  # fmt: skip
