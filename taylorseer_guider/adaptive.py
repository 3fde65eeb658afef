"""How far off a forecast will be, as far as calls have told: what ``plan.tolerance`` goes by."""

import math
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from .forecast import COORDINATES, weighted_sum


@torch.no_grad()
def rms(tensor):
    """Root mean square of each sample of (B, ...): float32 (B,)."""
    return tensor.float()[..., None].flatten(1).square().mean(dim=1).sqrt()


@dataclass(frozen=True)
class Errors:
    """How far off a forecast will be, judged by how far off it would have been at the newest call.

    A polynomial of degree m through f at u_0 .. u_m misses f(u) by f[u_0 .. u_m, u] prod_i (u - u_i). The divided difference
    changes slowly: it is measured at every call, where both the output and what would have been forecast of it are known, and
    the product moves it to where a forecast is wanted next. ``coordinate`` is the u of the product: rho, in which schedules
    are even, foretells errors better than asinh, even where asinh is what outputs are interpolated in.

    ``sigmas`` are the call's and those of history, newest first. ``measured`` stays on the device until someone asks.
    """

    sigmas: tuple[float, ...]
    read: object  # () -> (errors by order, RMS of the newest guided output), worst samples

    coordinate = staticmethod(COORDINATES["rho"])

    @classmethod
    @torch.no_grad()
    def measured(cls, sigma, value, sigmas, outputs, weights, size):
        """A call at ``sigma`` gave ``value``, where ``outputs`` were held of ``sigmas``, newest first.

        ``weights(sigmas, sigma)`` are those with which outputs at ``sigmas`` would have made the forecast at ``sigma``; ``size``
        (a tensor) is the RMS of the guided output.
        """
        errors = [
            rms(weighted_sum(weights(sigmas[: m + 1], sigma), outputs[: m + 1], value.dtype) - value).amax()
            for m in range(len(sigmas))
        ]
        return cls((sigma, *sigmas), partial(torch.Tensor.tolist, torch.stack([*errors, size.to(value.device)])))

    @cached_property
    def _numbers(self):
        return self.read()

    @property
    def size(self):
        return self._numbers[-1]

    @cached_property
    def constants(self):
        """By order: error per unit of the product."""
        older = self.sigmas[1:]
        return [error / self._product(self.sigmas[0], older[: m + 1]) for m, error in enumerate(self._numbers[:-1])]

    def best(self, sigma):
        """(order, error to expect) of the best forecast at ``sigma``: RMS of the worst sample; (0, inf) if never measured."""
        expected = [(c * self._product(sigma, self.sigmas[: m + 1]), m) for m, c in enumerate(self.constants)]
        error, order = min(expected, default=(math.inf, 0))
        return order, error

    def _product(self, sigma, sigmas):
        u = self.coordinate(sigma)
        return math.prod(abs(u - self.coordinate(other)) for other in sigmas)
