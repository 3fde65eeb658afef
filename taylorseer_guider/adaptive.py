"""How far off a forecast will be, judged by how far off it would have been at the newest call."""

import math

import torch

from .forecast import COORDINATES, weighted_sum


@torch.no_grad()
def rms(tensor):
    """Root mean square of each sample of (B, ...): float32 (B,)."""
    return tensor.float().flatten(1).square().mean(dim=1).sqrt()


class ErrorModel:
    """The next term of Newton's interpolation formula, order by order.

    A polynomial of degree m through f at u_0 .. u_m misses f(u) by f[u_0 .. u_m, u] prod_i (u - u_i). The divided difference
    changes slowly: it is measured at every call, where both the output and what would have been forecast of it are known, and
    the product moves it to where a forecast is wanted next. ``coordinate`` is the u of the product: rho, in which schedules
    are even, foretells errors better than asinh, even where asinh is what outputs are interpolated in.
    """

    def __init__(self, coordinate=COORDINATES["rho"]):
        self.coordinate = coordinate
        self.sigmas = []  # of the history, newest first
        self.constants = []  # by order: error per unit of the product

    def learn(self, sigma, value, sigmas, outputs, weights):
        """A call at ``sigma`` gave ``value``; history held ``outputs`` at ``sigmas``, newest first.

        ``weights(sigmas, sigma)`` are those with which outputs at ``sigmas`` would have made the forecast at ``sigma``.
        """
        errors = [
            rms(weighted_sum(weights(sigmas[: m + 1], sigma), outputs[: m + 1], value.dtype) - value).amax()
            for m in range(len(sigmas))
        ]
        measured = torch.stack(errors).tolist() if errors else []
        self.constants = [error / self._product(sigma, sigmas[: m + 1]) for m, error in enumerate(measured)]
        self.sigmas = [sigma, *sigmas]

    def best(self, sigma):
        """(order, error to expect) of the best forecast at ``sigma``: RMS of the worst sample; (0, inf) if never measured."""
        expected = [(c * self._product(sigma, self.sigmas[: m + 1]), m) for m, c in enumerate(self.constants)]
        error, order = min(expected, default=(math.inf, 0))
        return order, error

    def _product(self, sigma, sigmas):
        u = self.coordinate(sigma)
        return math.prod(abs(u - self.coordinate(other)) for other in sigmas)
