"""Searches among plans at a fixed budget, as BudCache (arXiv 2606.13496) has them: annealing, then hill climbing."""

import math
import random

STEPS = 1500  # plans that annealing looks at, for each start
HOT, COLD = 0.3, 0.01  # temperatures, in units of ln(error)


def neighbour(nodes, count, rng):
    """``nodes`` with one of them (never node 0) moved: by a step or two, or anywhere."""
    free = [node for node in range(1, count) if node not in nodes]
    if len(nodes) == 1 or not free:
        return nodes
    moved = rng.choice(nodes[1:])
    near = [node for node in free if abs(node - moved) <= 2]
    to = rng.choice(near if near and rng.random() < 0.7 else free)
    return tuple(sorted({*nodes, to} - {moved}))


def anneal(error, start, count, rng, steps=STEPS):
    """Simulated annealing of ln ``error`` from ``start``. Looks at ``steps`` plans; ``error`` remembers them."""
    current, value = start, math.log(error(start))
    for step in range(steps):
        temperature = HOT * (COLD / HOT) ** (step / steps)
        candidate = neighbour(current, count, rng)
        new = math.log(error(candidate))
        if new < value or rng.random() < math.exp((value - new) / temperature):
            current, value = candidate, new
    return current


def neighbours(tried, count, walks, guess, seed):
    """Plans to try next, until ``tried`` (plan -> dB, filled in by the caller) holds ``walks`` of them or nothing is left.

    Hill climbing: of the untried neighbours of the best plan so far, the one that a replay likes best, or any, as a coin falls.
    """
    rng = random.Random(seed)
    while len(tried) < walks:
        fresh = []
        for plan in sorted(tried, key=tried.get, reverse=True):
            fresh = sorted(_moves(plan, count) - tried.keys(), key=guess)
            if fresh:
                break
        if not fresh:
            return
        yield fresh[0] if rng.random() < 0.5 else rng.choice(fresh)


def _moves(plan, count):
    """Every plan that differs from ``plan`` in one node, moved by one or two steps. Node 0 stays."""
    near = ((node, node + by) for node in plan[1:] for by in (-2, -1, 1, 2))
    return {tuple(sorted({*plan, to} - {node})) for node, to in near if 0 < to < count and to not in plan}
