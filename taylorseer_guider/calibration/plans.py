"""Which nodes deserve a denoiser call. Floats and small matrices only; no call is made here.

The reference runs leave the Gram matrix of every x and every output at the host's nodes. Any plan can be *replayed* on it:
the x that it would reach is a combination of recorded tensors, so the solves of a whole walk are a handful of 10x10 systems.
What replaying only guesses is how outputs shift with the x that they are asked at; the best plans are then walked for real.
"""

import torch

from .squares import ridge

RIDGE = 1e-8
TOGETHER = 512  # plans that are replayed at once
WIDTH = 24  # plans that a search goes on with


class Replay:
    """Predicts the errors of plans from the ``traces`` (S, m, m) of the reference runs at each of S scales.

    ``shifts`` (S, nodes, n, n) are the products of errors of x, at each node, and of what they did to the n - 1 branches there.
    An output follows an error e of x by s e + r |e|: s is what the two have in common, and r, which nothing that is held
    foretells, goes a way of its own. Without r late calls would see the reference's image, and early mistakes would cost nothing.
    """

    def __init__(self, traces, shifts, branches, history):
        self.traces, self.branches, self.history = traces, branches, history
        self.count = shifts.shape[1]
        across = shifts[..., 1:, 0] / shifts[..., :1, 0].clamp(min=1e-30)
        own = shifts[..., 1:, 1:] / shifts[..., :1, :1].clamp(min=1e-30) - across[..., None] * across[..., None, :]
        self.along = across.permute(2, 1, 0)  # (branches, nodes, S)
        self.apart = _root(own).permute(1, 2, 0, 3)  # (nodes, branches, S, branches)
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

    def of(self, calls, plans):
        """{plan: error} of ``plans`` and of all plans of ``calls`` nodes that were replayed."""
        self.errors([*plans])
        return {plan: error for plan, error in self.known.items() if len(plan) == calls}

    def _walk(self, plans):
        """(P, calls) -> (P,). A tensor is told by its coefficients, beside which stand its products with all recorded ones."""
        known, branches = self.traces.shape[-1], self.branches
        traces = torch.eye(known + plans.shape[1] * branches, dtype=self.traces.dtype).repeat(len(self.traces), 1, 1)
        units, traces[:, :known, :known] = traces.clone(), self.traces
        recorded = torch.stack([units, traces], 1).transpose(0, 2)  # (m, 2, S, m)
        x, held = recorded[torch.zeros(len(plans), dtype=torch.long)], []
        ends = torch.cat([plans[:, 1:], torch.full_like(plans[:, :1], self.count)], 1)
        for call, (nodes, following) in enumerate(zip(plans.T, ends.T, strict=True)):
            first, off, ways = self.count + 1 + nodes * branches, x - recorded[nodes], known + call * branches
            size = (off[:, 0] * off[:, 1]).sum(-1).clamp(min=0).sqrt()  # (P, S)
            newest = []
            for branch in range(branches):
                moved = recorded[first + branch] + self.along[branch][nodes][:, None, :, None] * off
                moved[..., ways : ways + branches] += (self.apart[nodes, branch] * size[..., None])[:, None]
                newest.append(moved)
            held = [*newest, *held][: self.history * branches]
            tensors = torch.stack([x, *held, recorded[following]], -2)  # (P, 2, S, n, m)
            weights = ridge(tensors[:, 0] @ tensors[:, 1].mT, RIDGE)
            x = (weights[:, None, :, None, :] @ tensors[..., :-1, :])[..., 0, :]
        miss = x - recorded[self.count]
        return (miss[:, 0] * miss[:, 1]).sum(-1).clamp(min=1e-30).log().mean(1).exp()


def _root(matrices):
    """(..., n, n) R with R R^T = ``matrices``, up to their negative part."""
    values, vectors = torch.linalg.eigh(matrices)
    return vectors * values.clamp(min=0).sqrt()[..., None, :]


def initial_plan(sigmas, calls):
    """A plan to start from: node 0, and the others spread evenly in log sigma where images take shape, 4 to 0.1."""
    inside = [i for i, sigma in enumerate(sigmas[:-1]) if i > 0 and 0.1 <= sigma <= 4]
    outside = sorted(set(range(1, len(sigmas) - 1)) - set(inside), reverse=True)
    wanted = calls - 1
    if wanted > len(inside):
        inside, outside = inside + outside[: wanted - len(inside)], []
    spacing = (len(inside) - 1) / max(wanted - 1, 1)
    return tuple(sorted({0, *(sorted(inside)[round(i * spacing)] for i in range(wanted))}))


def promising(replay, starts, keep):
    """The ``keep`` best plans on a replay that a search from ``starts``, plans of one length, finds: best first.

    The ``WIDTH`` best plans so far have each of their nodes moved to anywhere, all at once, until none of that is better.
    """
    best = []
    found = list(dict.fromkeys(starts))
    while found != best:
        best = found
        near = {moved for plan in best for moved in _moves(plan, replay.count)}
        plans = sorted(near.union(best))
        found = [plan for _, plan in sorted(zip(replay.errors(plans), plans, strict=True))][:WIDTH]
    return best[: max(keep, 1)]


def resized(plan, calls, count, guess):
    """A plan of ``calls`` nodes out of another: one after another is added, or left out, where ``guess`` likes that best."""
    while len(plan) != calls:
        more = [tuple(sorted({*plan, node})) for node in range(count) if node not in plan]
        fewer = [tuple(node for node in plan if node != other) for other in plan[1:]]
        plan = min(more if len(plan) < calls else fewer, key=guess)
    return plan


def likeliest(foretold, walked):
    """The plan of ``foretold`` ({plan: error of a replay}) that is likeliest the best of those not in ``walked`` ({plan: dB}).

    A replay errs alike on plans that share nodes: by how much it did where plans were walked is fitted, ridge, node by node. None
    where all are walked.
    """
    left = sorted(foretold.keys() - walked.keys())
    if not left:
        return None
    nodes = torch.tensor([*walked, *left])
    members = torch.zeros(len(nodes), int(nodes.max()) + 1, dtype=torch.float64).scatter_(1, nodes, 1.0)
    decibels = -10 * torch.tensor([foretold[plan] for plan in [*walked, *left]], dtype=torch.float64).log10()
    off = torch.tensor([*walked.values()], dtype=torch.float64) - decibels[: len(walked)]
    known = members[: len(walked)]
    shares = torch.linalg.solve(known @ known.T + torch.eye(len(known), dtype=torch.float64), off - off.mean())
    return left[int((decibels + members @ (known.T @ shares))[len(walked) :].argmax())]


def _moves(plan, count):
    """Every plan that differs from ``plan`` in one node. Node 0 stays."""
    free = [node for node in range(1, count) if node not in plan]
    return {tuple(sorted({*plan, to} - {node})) for node in plan[1:] for to in free}
