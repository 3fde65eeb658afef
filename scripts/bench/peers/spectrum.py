"""Spectrum (arXiv 2603.01623, CVPR 2026): Chebyshev polynomials over steps, fitted to the run's own outputs by ridge regression.

After its official code (March 2026) and its sampler-level ports, which forecast the output instead of the last block's features;
so does this. Left out: half precision, and a blend that changes with the window.
"""

from functools import partial

import torch

from .fitted import evenly

DEGREE, RIDGE, WARM_UP, WINDOW, FLEX = 4, 0.1, 5, 2, 0.75  # the defaults of the official code and of its example runs
FLEXES = [n / 20 for n in range(401)]


class Spectrum:
    """A forecaster (see ``forecasts``) of ``nodes`` steps: ridge regression on T_0 .. T_degree at 2 node / nodes - 1.

    ``share`` is the weight of this against the line through the newest two outputs: 1 in the paper, 0.5 to 1 as its code
    advises since.
    """

    def __init__(self, nodes, degree=DEGREE, ridge=RIDGE, share=1.0):
        self.nodes, self.degree, self.ridge, self.share = nodes, degree, ridge, share
        self.called, self.outputs = [], []

    def update(self, node, x, output):
        self.called.append(node)
        self.outputs.append(output)

    def predict(self, node, x):
        weights = self.weights(node).tolist()
        return sum(weight * output for weight, output in zip(weights, self.outputs, strict=True))

    def weights(self, node):
        """What the forecast at ``node`` is in the outputs known: it is linear in them."""
        known, asked = self.basis(self.called), self.basis([node])[0]
        normal = known.T @ known + self.ridge * torch.eye(self.degree + 1, dtype=known.dtype)
        weights = self.share * (known @ torch.linalg.solve(normal, asked))
        weights[-1] += 1 - self.share
        if len(self.called) > 1:
            older, newest = self.called[-2:]
            slope = (1 - self.share) * (node - newest) / (newest - older)
            weights[-1] += slope
            weights[-2] -= slope
        return weights

    def basis(self, nodes):
        """(len(nodes), degree + 1) Chebyshev polynomials: cos(k arccos t)."""
        t = (2 * torch.tensor(nodes, dtype=torch.float64) / self.nodes - 1).clamp(-1, 1)
        return (torch.arange(self.degree + 1) * t.arccos()[:, None]).cos()


def sequence(nodes, warm_up=WARM_UP, window=WINDOW, flex=FLEX):
    """The nodes that Spectrum calls: the first ``warm_up``, then one in ``window``, which grows by ``flex`` at every call."""
    called, since = list(range(min(warm_up, nodes))), 0
    for node in range(warm_up, nodes):
        since += 1
        if since % int(window) == 0:
            called.append(node)
            window, since = round(window + flex, 3), 0
    return called


def plan(budget, nodes):
    """Spectrum's own schedule with ``budget`` calls: the warm-up as near its default as can be, then the window's growth."""
    if not 2 <= budget <= nodes:
        raise ValueError(f"budget is {budget}; Spectrum calls 2 to {nodes} of {nodes} nodes; ask for one of these")
    if budget == nodes:
        return list(range(nodes))
    for warm_up in sorted(range(1, budget + 1), key=lambda count: abs(count - WARM_UP)):
        for flex in sorted(FLEXES, key=lambda value: abs(value - FLEX)):
            called = sequence(nodes, warm_up, WINDOW, flex)
            if len(called) == budget:
                return called
    raise ValueError(f"budget is {budget}, which no warm-up and window of Spectrum gives on {nodes} nodes; take another")


def methods(budget, nodes):
    """[(label, the nodes to call, ``make()`` of a forecaster for ``forecasts.heun``)] at a budget of calls."""
    schedules = {"": plan(budget, nodes), ", even nodes": evenly(budget, nodes)}
    shares = {"Spectrum": 1.0, "Spectrum, half a line": 0.5}
    return [
        (label + suffix, called, partial(Spectrum, nodes, share=share))
        for suffix, called in schedules.items()
        for label, share in shares.items()
    ]
