"""How the outputs of a run move along sigma, and how far off forecasts of them are: on the run's own x, before any feedback."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch

from ...forecast import COORDINATES, QUANTITIES, newton_weights

ORDERS = (0, 1, 2, 3)
INTERVALS = (2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Outputs:
    """A run's guided outputs and x at each node, (N, m) float64: whatever the batch, one vector a node.

    Errors are shares of ``size``, that of the last output. Where there are too few nodes before one for an order, its error is
    not a number.
    """

    sigmas: tuple[float, ...]
    x: torch.Tensor  # as image + sigma * noise
    denoised: torch.Tensor

    @classmethod
    def of(cls, course):
        """Those of a ``record.Course``."""
        visits = list(course.along.values())
        sigmas = tuple(visit.sigma for visit in visits)
        x = torch.stack([visit.x.flatten().double() * course.schedule.unscale(visit.sigma) for visit in visits])
        return cls(sigmas, x, torch.stack([visit.output.flatten().double() for visit in visits]))

    @cached_property
    def size(self):
        return float(self.denoised[-1].norm())

    def quantity(self, name):
        """((N, m) what is forecast in the place of the outputs, (N,) by how much an error of it counts in the output)."""
        if QUANTITIES[name] is None:
            return self.denoised, torch.ones(len(self.sigmas), dtype=torch.float64)
        skip, out = torch.tensor([QUANTITIES[name](sigma) for sigma in self.sigmas], dtype=torch.float64).T
        return (skip[:, None] * self.x - self.denoised) / out[:, None], out

    def along(self, coordinate):
        """Where the nodes stand on the axis ``coordinate``: floats."""
        return [COORDINATES[coordinate](sigma) for sigma in self.sigmas]

    def slopes(self, coordinate):
        """(N - 1, m): first divided differences of the outputs."""
        u = torch.tensor(self.along(coordinate), dtype=torch.float64)
        return self.denoised.diff(dim=0) / u.diff()[:, None]

    def errors(self, quantity, coordinate):
        """(orders, intervals, N): how far off the forecast of each node is, as a share of ``size``."""
        values, counts = self.quantity(quantity)
        weights = self.weights(coordinate)
        missed = torch.where(weights.isnan(), 0.0, weights) @ values - values
        return (missed.norm(dim=-1) * counts / self.size).masked_fill(weights.isnan().any(-1), torch.nan)

    def weights(self, coordinate):
        """(orders, intervals, N, N): weights of all outputs in the forecast of each node; not numbers where there is none."""
        return forecast_weights(tuple(self.along(coordinate)))

    def remainders(self, quantity, coordinate):
        """(orders, intervals, N): the errors that the next divided difference foretells, from one output more further back.

        A forecast misses f[u, u_0 .. u_m] prod_i (u - u_i); the difference is taken for f[u_0 .. u_m, u_(m + 1)].
        """
        (values, counts), u = self.quantity(quantity), self.along(coordinate)
        found = torch.full((len(ORDERS), len(INTERVALS), len(u)), torch.nan, dtype=torch.float64)
        for i, order in enumerate(ORDERS):
            for j, interval in enumerate(INTERVALS):
                for node in range(len(u)):
                    if held := held_nodes(node, interval, order + 1):
                        difference = divided_difference([u[k] for k in held], values[held])
                        found[i, j, node] = _product(u[node], [u[k] for k in held[:-1]]) * difference.norm() * counts[node]
        return found.abs() / self.size


@lru_cache(maxsize=len(COORDINATES))
def forecast_weights(us):
    """``Outputs.weights`` of nodes that stand at ``us`` (a tuple of floats)."""
    found = torch.full((len(ORDERS), len(INTERVALS), len(us), len(us)), torch.nan, dtype=torch.float64)
    for i, order in enumerate(ORDERS):
        for j, interval in enumerate(INTERVALS):
            for node in range(len(us)):
                if held := held_nodes(node, interval, order):
                    found[i, j, node] = 0.0
                    found[i, j, node, held] = _tensor(newton_weights([us[k] for k in held], us[node]))
    return found


def held_nodes(node, interval, order):
    """The nodes that ``node`` is forecast from at the end of a gap: the newest ``interval`` - 1 back, the others each as
    far again. [] where there are not so many.
    """
    held = [node - (interval - 1) - interval * back for back in range(order + 1)]
    return held if held[-1] >= 0 else []


def divided_difference(us, values):
    """f[u_0 .. u_m] of the ``values`` (m + 1, n) of f: (n,)."""
    weights = [1 / _product(u, [other for j, other in enumerate(us) if j != i]) for i, u in enumerate(us)]
    return _tensor(weights) @ values


def principal(rows):
    """((N, 2) ``rows`` (N, m) about their mean along their first two principal components, all N singular values)."""
    left, singular, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    found = torch.zeros(len(rows), 2, dtype=rows.dtype)
    found[:, : left.shape[1]] = (left * singular)[:, :2]
    return found, singular


def _product(u, others):
    return torch.prod(u - _tensor(others)).item()


def _tensor(values):
    return torch.tensor(values, dtype=torch.float64)
