"""Which nodes deserve a denoiser call. Floats and small matrices only; no call is made here.

The reference runs leave the Gram matrix of every x and every output at the host's nodes. Any plan can be *replayed* on it:
the x that it would reach is a combination of recorded tensors, so the solves of a whole walk are a handful of 10x10 systems.
What replaying only guesses is how outputs shift with the x that they are asked at; the best plans are then walked for real.
"""

import math
import random
from itertools import combinations

import torch

from .squares import ridge

RIDGE = 1e-8
TOGETHER = 512  # plans that are replayed at once
STEPS = 1500  # plans that annealing looks at, for each start
HOT, COLD = 0.3, 0.01  # temperatures, in units of ln(error)


class Replay:
    """Predicts the errors of plans from the ``traces`` (S, m, m) of the reference runs at each of S scales.

    ``shifts`` (S, nodes) say, node by node, by how much of an error of x the output there moves with it. Without them every late
    call would see the reference's own image, and an early mistake would cost nothing.
    """

    def __init__(self, traces, shifts, branches, history):
        self.traces, self.shifts, self.branches, self.history = traces, shifts, branches, history
        self.count = shifts.shape[1]
        self.known = {}

    def error(self, nodes):
        """The error of one plan, as ``errors``."""
        return self.errors([nodes])[0]

    def errors(self, plans):
        """Mean square distances to the reference at the end, for calls at each of ``plans`` (sorted step indices from 0).

        All have one length, and are replayed at once; of several scales it is the geometric mean.
        """
        fresh = [plan for plan in dict.fromkeys(plans) if plan not in self.known]
        for start in range(0, len(fresh), TOGETHER):
            some = fresh[start : start + TOGETHER]
            self.known.update(zip(some, self._walk(torch.tensor(some)).tolist(), strict=True))
        return [self.known[plan] for plan in plans]

    def _walk(self, plans):
        """(P, calls) -> (P,)."""
        units = torch.eye(self.traces.shape[-1], dtype=self.traces.dtype)
        expand = lambda index: units[index][:, None].expand(-1, len(self.traces), -1)  # noqa: E731
        x, held = expand(torch.zeros(len(plans), dtype=torch.long)), []
        ends = torch.cat([plans[:, 1:], torch.full_like(plans[:, :1], self.count)], 1)
        for nodes, following in zip(plans.T, ends.T, strict=True):
            first = self.count + 1 + nodes * self.branches
            shift = self.shifts.T[nodes][..., None] * (x - expand(nodes))
            newest = [expand(first + branch) + shift for branch in range(self.branches)]
            held = [*newest, *held][: self.history * self.branches]
            regressors = torch.stack([x, *held, expand(following)], -2)  # (P, S, n, m)
            x = (ridge(regressors @ self.traces @ regressors.mT, RIDGE)[..., None, :] @ regressors[..., :-1, :])[..., 0, :]
        miss = x - units[self.count]
        return torch.einsum("psi,sij,psj->ps", miss, self.traces, miss).clamp(min=1e-30).log().mean(1).exp()


def initial_plan(sigmas, calls):
    """A plan to start from: node 0, and the others spread evenly in log sigma where images take shape, 4 to 0.1."""
    inside = [i for i, sigma in enumerate(sigmas[:-1]) if i > 0 and 0.1 <= sigma <= 4]
    outside = sorted(set(range(1, len(sigmas) - 1)) - set(inside), reverse=True)
    wanted = calls - 1
    if wanted > len(inside):
        inside, outside = inside + outside[: wanted - len(inside)], []
    spacing = (len(inside) - 1) / max(wanted - 1, 1)
    return tuple(sorted({0, *(sorted(inside)[round(i * spacing)] for i in range(wanted))}))


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


def promising(replay, start, seed, keep):
    """The ``keep`` best plans that two annealings from ``start`` find on a replay, best first; ``start`` is among them."""
    rng = random.Random(seed)
    for _ in range(2):
        anneal(replay.error, start, replay.count, rng)
    ranked = sorted((plan for plan in replay.known if len(plan) == len(start)), key=replay.error)[: max(keep, 1)]
    return ranked if start in ranked else [*ranked[: max(keep, 1) - 1], start]


def grown(plan, calls, count, guess, keep):
    """The ``keep`` best plans of ``calls`` nodes, by ``guess``, that hold the shorter ``plan``: what served it serves them."""
    while calls - len(plan) > 2:
        plan = min((_with(plan, (node,)) for node in range(count) if node not in plan), key=guess)
    free = [node for node in range(count) if node not in plan]
    return sorted((_with(plan, more) for more in combinations(free, calls - len(plan))), key=guess)[:keep]


def _with(plan, nodes):
    return tuple(sorted({*plan, *nodes}))


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
