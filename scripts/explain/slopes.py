"""How far a forecast is off, by the gap between the outputs that it is made from and by its order."""

import math
from dataclasses import dataclass

from taylorseer_guider.forecast import COORDINATES, newton_weights, weighted_sum

from .runs import NODES, record

ORDERS = (0, 1, 2, 3)
FINEST = 16  # fine steps in one step of the host's schedule
GAPS = (1, 2, 4, 8, 16, 32, 48)  # fine steps between two held outputs
TARGETS = (12, 13, 14)  # nodes of the host's schedule that are forecast, sigma 0.42 to 0.13: where an image takes shape
SMALL = (0, 1 / 4)  # gaps over which a slope is taken, in steps of the host's schedule: where the remainder term rules ...
LARGE = (1, 3)  # ... and where people use it


@dataclass(frozen=True)
class Errors:
    """Relative errors of forecasts of one ``order``: ``errors[i]`` at ``gaps[i]``, in steps of the host's schedule."""

    order: int
    gaps: tuple[float, ...]
    errors: tuple[float, ...]

    def slope(self, least, most):
        """The slope of log error over log gap, by least squares over the gaps from ``least`` to ``most``."""
        points = [(math.log(g), math.log(e)) for g, e in zip(self.gaps, self.errors, strict=True) if least <= g <= most]
        a, b = (sum(values) / len(points) for values in zip(*points, strict=True))
        return sum((x - a) * (y - b) for x, y in points) / sum((x - a) ** 2 for x, _ in points)

    def remainder(self, gap):
        """The error that the remainder term foretells at ``gap`` from the one at the smallest gap."""
        return self.errors[0] * (gap / self.gaps[0]) ** (self.order + 1)


def measure(subject, bar=False):
    """[Errors] for each of ``ORDERS``, on a full run of ``subject`` over a schedule ``FINEST`` times as fine as the host's."""
    sigmas, outputs = record(subject, (NODES - 1) * FINEST + 1, bar)
    u = [COORDINATES["rho"](sigma) for sigma in sigmas]
    gaps = tuple(gap / FINEST for gap in GAPS)
    return [Errors(order, gaps, tuple(_error(u, outputs, order, gap) for gap in GAPS)) for order in ORDERS]


def _error(u, outputs, order, gap):
    """Root mean square over ``TARGETS`` of |forecast - output| / |output|; outputs ``gap``, 2 ``gap``, .. nodes back are held."""
    squares = []
    for target in (node * FINEST for node in TARGETS):
        held = [target - gap * (back + 1) for back in range(order + 1)]
        forecast = weighted_sum(newton_weights([u[i] for i in held], u[target]), [outputs[i] for i in held])
        squares.append(float((forecast - outputs[target]).norm() / outputs[target].norm()) ** 2)
    return math.sqrt(sum(squares) / len(squares))


def table(name, measured):
    """Aligned lines: slopes at small gaps beside the remainder's, slopes at gaps that people use, and the errors there."""
    used = [i for i, gap in enumerate(measured[0].gaps) if gap >= LARGE[0]]
    slopes = f"{'remainder':>10} {f'up to 1/{round(1 / SMALL[1])}':>10} {f'{LARGE[0]} to {LARGE[1]}':>8}"
    head = "".join(f"{f'interval {measured[0].gaps[i]:g}':>12}" for i in used)
    lines = [f"{name}: slopes, and relative errors of a forecast", f"{'order':>5} {slopes}{head}"]
    for found in measured:
        errors = "".join(f"{found.errors[i]:>12.4f}" for i in used)
        lines.append(f"{found.order:>5} {found.order + 1:>10} {found.slope(*SMALL):>10.2f} {found.slope(*LARGE):>8.2f}{errors}")
    return "\n".join(lines)
