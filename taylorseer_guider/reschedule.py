"""A calibration's rows of one schedule on another: any number of steps, and wherever they are.

What is fitted is the solution between calls. From the call at sigma_k, where x is x_k, it is at any later sigma

    x(sigma) = r x_k + (1 - r) E_k(sigma),        r = sigma / sigma_k,

with E_k the one output that would lead straight there: a sum of x_k and of the outputs that changes slowly with sigma. Between
fitted nodes it is drawn as a line in log(sigma), and beyond the last it stays as it is. So the host is led along the fitted
solution, each visit being answered by what leads from its node to the next.

A call is made at the host's node that is nearest to sigma_k. But what the denoiser is asked there is x_k, at sigma_k itself: that
is a sum of the host's x and of the outputs, too. So every output is what it was on the fitted schedule, and so is the picture,
whatever the host's schedule is. Only where that begins below the first sigma is the first output another one.
"""

import math
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from .hosts import SAMPLERS
from .plan import nearest
from .translate import ITSELF, Sum, as_euler, leading, row_of, stepped, sums_of

SAME = 1e-6  # relative distance of sigmas that are one


@dataclass(frozen=True)
class Moved:
    """A ``budget`` on another schedule.

    ``asked``: by node, what the denoiser is called with where that is not the host's own x and sigma: (sigma, a row whose
    weights make x).
    """

    budget: object
    asked: dict


def on_schedule(budget, fitted, sigmas, branches, history, scale):
    """``budget`` (of one ``scale``) of Euler's sampler over the ``fitted`` sigmas, on others (falling floats, then 0): a Moved.

    Rows weigh up to ``history`` outputs, which must be one more than those of ``budget`` do.
    """
    called = [row.sigma for row in budget.rows if row.call]
    nodes, like = nearest(sigmas[:-1], called), budget.rows[0]
    shares = (1.0,) if branches == 1 else (1 - scale, scale)
    paths = [Path(straight(sums, budget.rows, fitted), called, shares) for sums in zip(*sums_of(budget, branches), strict=True)]
    answers, inputs = zip(*[path.walked(nodes, sigmas) for path in paths], strict=True)
    calls, rows = [node in nodes for node in range(len(sigmas) - 1)], []
    for node, (call, held, *sums) in enumerate(zip(calls, accumulate(calls), *answers, strict=True)):
        row = replace(like, step=node, sigma=sigmas[node], call=call)
        rows.append(row_of(row, sums, min(held, history), held, branches))
    asked = {}
    for k, (node, *sums) in enumerate(zip(nodes, *inputs, strict=True)):
        if not all(each == ITSELF for each in sums):
            asked[node] = called[k], row_of(like, sums, min(k, history), k, branches)
    return Moved(replace(budget, nodes=tuple(nodes), rows=tuple(rows)), asked)


def straightened(budget, fitted, branches, history):
    """``budget`` (of one scale), which is ``fitted``, with a row for each call: that which leads straight to the next."""
    if SAMPLERS[fitted.sampler].method == "heun":
        budget, history = as_euler(budget, fitted.sigmas, branches, history + 1), history + 1
    called = [row.sigma for row in budget.rows if row.call]
    paths = [straight(sums, budget.rows, fitted.sigmas) for sums in zip(*sums_of(budget, branches), strict=True)]
    rows = []
    for n, (sigma, *each) in enumerate(zip(called, *paths, strict=True)):
        like = replace(budget.rows[0], step=n, sigma=sigma, call=True)
        rows.append(row_of(like, [points[-1][1] for points in each], min(n + 1, history), n + 1, branches))
    return replace(budget, rows=tuple(rows), sigmas=(*called, 0.0))


def straight(sums, rows, sigmas):
    """For each call [(sigma, E)] at the nodes up to the next one, E being the output that leads there in one step of Euler's."""
    found = []
    for answer, row, (start, end) in zip(sums, rows, pairwise(sigmas), strict=True):
        if row.call:
            x, first = ITSELF, start
            found.append([])
        x = stepped(x, answer.of(x), end / start)
        found[-1].append((end, leading(x, end / first)))
    return found


@dataclass(frozen=True)
class Path:
    """The fitted solution between the calls, which are at the sigmas ``called``: one kind of weights."""

    straight: list
    called: list
    shares: tuple  # of the branches in the guided output

    def walked(self, nodes, sigmas):
        """(what leads from each of ``sigmas`` to the next, what is asked at each of ``nodes``), as sums of the host's x there."""
        answers, inputs, at = [], [], ITSELF  # ``at``: the host's x, of the x of the newest call
        for k, (first, last) in enumerate(pairwise([*nodes, len(sigmas) - 1])):
            inputs.append(self.at(k - 1, self.called[k]).of(at.solved()) if k else ITSELF)
            newest = inputs[-1] if k else self.first(sigmas[0])
            for node in range(first, last):
                end, newest = sigmas[node + 1], newest if node == first else at.solved()
                at = self.at(k, end)
                if abs(at.x) < end / self.called[k]:  # the host's x keeps of x_k what is left of its noise at least: it tells x_k
                    at = replace(at, x=end / self.called[k])
                answers.append(leading(at.of(newest), end / sigmas[node]))
        return answers, inputs

    def first(self, sigma):
        """x at the first call of the fit, of the x at ``sigma``: what the first output, which is had there, makes of it."""
        r = self.called[0] / sigma
        if abs(r - 1) < SAME:
            return ITSELF
        return Sum(r, {(0, branch): share * (1 - r) for branch, share in enumerate(self.shares)})

    def at(self, k, sigma):
        """x at ``sigma``, as a sum of x at the call ``k`` and of the outputs."""
        return stepped(ITSELF, along(self.straight[k], sigma), sigma / self.called[k])


def along(points, sigma):
    """E at ``sigma`` of ``points``, (sigma, E) with falling sigmas: a line in log(sigma), level at both ends."""
    if sigma > 0 and points[0][0] > sigma:
        for (above, a), (below, b) in pairwise(points):
            if below == 0:
                return a
            if sigma >= below:
                part = math.log(above / sigma) / math.log(above / below)
                return a * (1 - part) + b * part
    return points[0 if sigma >= points[0][0] else -1][1]
