"""The plan of a budget: searched on recordings, then with real calls, and from what is known of an earlier one."""

import torch

from .plans import Replay, initial_plan, likeliest, promising, resized
from .refine import KEPT
from .walk import fit, given

FINALISTS = 2  # plans of each budget that are walked with every run, where fewer compared them


def most_calls(calls, problem, walks, refine, start):
    """Denoiser calls that a budget of ``calls`` calls takes at most.

    Walks have their first output from the reference; the check in the sampler itself has not. Where x is large, a gradient makes
    each call again.
    """
    again = sum(probe.x.numel() > KEPT for probe in problem.probes)
    finalists = FINALISTS if problem.few < len(problem.probes) else 0
    whole = (finalists + bool(start) + refine + bool(refine) + bool(problem.left_out)) * len(problem.probes) + refine * again
    return (calls - 1) * (walks * problem.few + whole) + calls


def solve_budget(problem, calls, earlier, walks, journal, bar):
    """The best Fit of ``calls`` calls that ``walks`` walks of some of the runs find; the best few are walked with all of them.

    ``earlier`` is a Budget to start from, or None. A walk of a few runs ranks plans as one of all runs does, since a row has a
    dozen weights and a run thousands of elements.
    """
    count, found = len(problem.sigmas) - 1, {}
    bar.say(f"{calls} calls: search on recordings")
    replay, few, tried = _replay(problem), problem.first(problem.few), journal.plans(calls)

    def walked(nodes):
        if nodes not in tried:
            best = f", best {max(tried.values()):.1f} dB" if tried else ""
            bar.say(f"{calls} calls: plan {len(tried) + 1}{best}")
            found[nodes] = fit(few, nodes)
            tried[nodes] = journal.keep_plan(nodes, found[nodes].merit)

    known = [resized(earlier.nodes, calls, count, replay.error)] if earlier else []
    for nodes in [*known, *promising(replay, [*known, initial_plan(problem.sigmas, calls)], -(-walks // 2))][:walks]:
        walked(nodes)
    while len(tried) < walks and (nodes := likeliest(replay.of(calls, tried), tried)):
        walked(nodes)
    bar.say(f"{calls} calls: weights")
    finalists = sorted(tried, key=tried.get, reverse=True)[: FINALISTS if len(few.probes) < len(problem.probes) else 1]
    fits = [found[nodes] if few.probes == problem.probes and nodes in found else fit(problem, nodes) for nodes in finalists]
    best = max(fits, key=lambda found: found.merit)
    return max([best, *_as_given(problem, earlier, fits)], key=lambda found: found.budget.db)


def _as_given(problem, earlier, fits):
    """[the Fit of the weights of a Budget to start from], if its plan is that of one of ``fits``, and its rows are alike."""
    alike = [found for found in fits if earlier and _outline(found.budget) == _outline(earlier)]
    return [fit(problem, earlier.nodes, given([[*row.weights, *row.low] for row in earlier.rows]))] if alike else []


def _outline(budget):
    return budget.nodes, [(row.step, row.call, len(row.weights), len(row.low)) for row in budget.rows]


def _replay(problem):
    """What plans are compared on without a call: of each scale the mean trace, and how outputs follow an error of x."""
    at = {}
    for probe, reference in zip(problem.probes, problem.references, strict=True):
        at.setdefault(probe.scale, []).append(reference)
    traces = [torch.cat([reference.trace for reference in references]).mean(0) for references in at.values()]
    shifts = [sum(reference.shifts for reference in references) for references in at.values()]
    return Replay(torch.stack(traces), torch.stack(shifts), problem.branches, problem.history)
