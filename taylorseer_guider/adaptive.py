"""How far off a forecast will be, judged by how far off it would have been at the newest call."""

import math

import torch

from .forecast import weighted_sum


@torch.no_grad()
def rms(tensor):
    """Root mean square of each sample of (B, ...): float32 (B,)."""
    return tensor.float().flatten(1).square().mean(dim=1).sqrt()


class ErrorModel:
    """The next term of Newton's interpolation formula, order by order.

    A polynomial of degree m through f at u_0 .. u_m misses f(u) by f[u_0 .. u_m, u] prod_i (u - u_i). The divided difference
    changes slowly: it is measured at every call, where both the output and what would have been forecast of it are known, and
    the product moves it to where a forecast is wanted next.
    """

    def __init__(self):
        self.nodes = []  # coordinates of the history, newest first
        self.constants = []  # by order: error per unit of the product

    def learn(self, u, value, nodes, outputs, basis):
        """A call at ``u`` gave ``value``; history held ``outputs`` at ``nodes``, newest first, with ``basis`` its weights."""
        errors = [
            rms(weighted_sum(basis(nodes[: m + 1], u), outputs[: m + 1], value.dtype) - value).amax()
            for m in range(len(nodes))
        ]
        measured = torch.stack(errors).tolist() if errors else []
        self.constants = [error / _product(u, nodes[: m + 1]) for m, error in enumerate(measured)]
        self.nodes = [u, *nodes]

    def best(self, u):
        """(order, error to expect) of the best forecast at ``u``: RMS of the worst sample; (0, inf) before any measurement."""
        expected = [(c * _product(u, self.nodes[: m + 1]), m) for m, c in enumerate(self.constants)]
        error, order = min(expected, default=(math.inf, 0))
        return order, error


def _product(u, nodes):
    return math.prod(abs(u - node) for node in nodes)
