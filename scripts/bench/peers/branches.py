"""Rows of cheaper guidance at a number of branches: which visits call both, for DPM++2M of few steps and for Heun on 20 nodes.

A run of V visits, U of them with both branches, costs V + U. Steps are as many as the method's own pattern has room for; what is
left over goes into more visits with both.
"""

from functools import partial

from ..workloads import FULL_CALLS, NODES
from . import guidance
from .solvers import standalone

WITHIN, EVERY = 641, 5  # FasterCache skips below this time step of 1000, and at every fifth visit does not
SHARE = 2 / 3  # Adaptive Guidance guides half of its visits: a quarter of all branches saved, as in the abstract of its paper


def faster_cache(visits, more=0):
    """The visits with both branches of FasterCache, as in diffusers' defaults: the beginning, ``more`` after it, every fifth."""
    beginning = sum(1000 * (1 - visit / visits) >= WITHIN for visit in range(visits)) + more
    return [visit for visit in range(visits) if visit < beginning or visit % EVERY == 0]


def linear_ag(visits, more=0):
    """The visits with both branches of LinearAG: every other one of the first half, and ``more`` in the same way after it."""
    return [visit for visit in range(0, visits, 2) if visit < visits / 2 + 2 * more]


def pattern(visits_of, branches):
    """(visits, those with both) of exactly ``branches`` branches, with as many visits as can be."""
    if branches < 2:
        raise ValueError(f"branches is {branches}, and a run with guidance has at least 2; ask for more")
    for visits in range(branches - 1, 0, -1):
        for more in range(visits + 1):
            called = visits_of(visits, more)
            if visits + len(called) == branches:
                return visits, called
    raise ValueError(f"branches is {branches}, which {visits_of.__name__} cannot spend exactly; ask for another number")


def methods(budgets, training):
    """[(label, branches aimed at, ``run(workload) -> x``)] of every method; what is fitted is fitted on ``training``, here."""
    solve = standalone("DPMPP2MSampler")
    made = []
    for budget in budgets:
        visits, called = pattern(faster_cache, budget)
        made += _cached("DPM++2M", solve, visits, visits, called)
        visits, called = pattern(linear_ag, budget)
        made.append(_linear("DPM++2M", solve, visits, called, training))
        made.append(_adaptive("DPM++2M", solve, round(SHARE * budget), round(SHARE * budget), budget, training))
    heun = standalone("HeunEDMSampler")
    made += _cached("Heun", heun, NODES, FULL_CALLS, faster_cache(FULL_CALLS))
    made.append(_linear("Heun", heun, NODES, linear_ag(FULL_CALLS), training, FULL_CALLS))
    made.append(_adaptive("Heun", heun, NODES, FULL_CALLS, round(FULL_CALLS / SHARE), training))
    return made


def _cached(solver, solve, steps, visits, called):
    branches = visits + len(called)
    for name, growth in (("FasterCache", guidance.GROWTH), ("FasterCache, constant", 1.0)):
        begin = partial(guidance.FasterCache, visits=visits, called=called, growth=growth)
        yield f"{name}, {solver}", branches, partial(_run, solve, steps, begin)


def _linear(solver, solve, steps, called, training, visits=None):
    rows = guidance.fit(training, solve, training.sigmas(steps), called)
    branches = (visits or steps) + len(called)
    return f"LinearAG, {solver}", branches, partial(_run, solve, steps, partial(guidance.LinearAG, rows=rows))


def _adaptive(solver, solve, steps, visits, branches, training):
    cut = guidance.threshold(training, solve, training.sigmas(steps), visits, branches)
    return (
        f"Adaptive Guidance, {solver}",
        branches,
        partial(_run, solve, steps, partial(guidance.AdaptiveGuidance, threshold=cut)),
    )


def _run(solve, steps, begin, workload):
    return solve(begin(workload), workload.noise, workload.sigmas(steps))
