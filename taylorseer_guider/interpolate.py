"""The policy without a calibration: nodes are called by a plan, and the others interpolated from those that were."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

from .adaptive import Errors, rms
from .forecast import BASES, COORDINATES, QUANTITIES, SIGMA_DATA, Weights, distinct, placed
from .plan import plan
from .policy import Keep
from .report import CALL, FORECAST
from .schedule import Schedule
from .settings import AUTO, Settings

INTERVAL = 2  # where nothing is said of which nodes are called


@dataclass(frozen=True)
class Interpolate:
    """Forecasts of ``quantity`` by ``settings``, whose ``max_order`` is known, on ``schedule``.

    ``plan`` says of each node whether it is called. ``first`` is the node that a run begins at, and ``half`` says that nobody has
    said how many calls to make, so that it is half of the nodes from there on. ValueError where the settings do not fit it.
    """

    settings: Settings
    schedule: Schedule = field(repr=False)
    quantity: str = "denoised"
    first: int = 0
    half: bool = False

    def __post_init__(self):
        object.__setattr__(self, "_mix", QUANTITIES[self.quantity])
        object.__setattr__(self, "_coordinate", COORDINATES[self.settings.forecast.coordinate_of(self.quantity)])
        object.__setattr__(self, "plan", self._planned())

    def forecasting(self, quantity):
        """The same policy for another quantity."""
        return replace(self, quantity=quantity)

    def beginning(self, node):
        """The same policy for a run that begins at ``node``: its calls are made on what is left of the schedule."""
        return self if self.calls is None else replace(self, first=node)

    @property
    def calls(self):
        """How many calls are made, no more than a run that begins in the middle has room for; None where they are not counted."""
        left = len(self.schedule.nodes) - self.first
        if self.half:
            return math.ceil(left / INTERVAL)
        return min(self.settings.calls, left) if self.first and self.settings.calls is not None else self.settings.calls

    def _planned(self):
        settings, nodes = self.settings, self.schedule.nodes[self.first :]
        return (False,) * self.first + plan(
            nodes,
            interval=(settings.interval or INTERVAL) if settings.plan.tolerance is None else max(len(nodes), 1),
            warmup=settings.plan.warmup,
            tail=settings.plan.tail,
            nodes=settings.plan.nodes,
            step_threshold=settings.step_threshold,
            calls=self.calls,
        )

    @cached_property
    def keep(self):
        settings = self.settings
        return Keep(
            count=settings.max_order + 1, recombine=True, quantity=self.quantity,
            quantity_is_auto=settings.forecast.quantity == AUTO, dtype=settings.history.dtype, device=settings.history.device,
            compare=self.compare if settings.plan.tolerance is not None else None,
        )  # fmt: skip

    def decide(self, visit, history):
        if visit.node is None:
            return CALL, "unknown sigma"
        if not len(history):
            return CALL, "no history"
        if self.settings.repeat_visits != "compute" and self._known(visit, history) is not None:
            return FORECAST, "repeated"
        if self.settings.repeat_visits == "later" and self._comes_again(visit):
            return FORECAST, "called later"
        if self.plan[visit.node]:
            return CALL, "planned"
        return (FORECAST, "skipped") if self.settings.plan.tolerance is None else self._adapt(visit, history)

    def inputs(self, visit, history):
        return None

    def _known(self, visit, history):
        """What is held of the output at ``visit``, or None."""
        return history.at(visit.sigma)

    def _comes_again(self, visit):
        """Whether this visit looks ahead to its node, as Heun's corrector does: the next step begins there, at a better x."""
        return visit.step is not None and visit.node > visit.step

    def _adapt(self, visit, history):
        """Forecast where the error to expect is within ``tolerance``, but not more than ``max_skip`` nodes in a row."""
        newest = history[0].node
        if newest is None or visit.node - newest > self.settings.plan.max_skip:
            return CALL, "max_skip"
        return (FORECAST, "skipped") if self.expected(visit, history)[1] <= self.settings.plan.tolerance else (CALL, "tolerance")

    def weights(self, visit, history):
        if visit.action == CALL:
            return None
        chosen, found, error = self._chosen(visit, history)
        skip, out = self._mix(visit.sigma) if self._mix else (0.0, -1.0)
        factors = placed(chosen, [-out * weight for weight in found], max(chosen) + 1)
        x = skip * self.schedule.unscale(visit.sigma)
        return Weights(x, tuple(factors), (), len(chosen) - 1, sum(map(abs, found)), error)

    def _chosen(self, visit, history):
        """(indices of the held outputs that make the forecast, their weights, the error to expect)."""
        if visit.reason == "repeated":
            return [next(i for i, held in enumerate(history) if held is self._known(visit, history))], [1.0], None
        order, error = self.settings.max_order, None
        if history[0].compared and history[0].compared.constants:
            order, error = self.expected(visit, history)
        chosen = distinct([self._coordinate(held.sigma) for held in history], order + 1)
        return chosen, self.interpolation([history[i].sigma for i in chosen], visit.sigma), error

    def interpolation(self, sigmas, sigma):
        """Weights of outputs at ``sigmas``, newest first, in the forecast at ``sigma``."""
        return BASES[self.settings.forecast.basis]([self._coordinate(other) for other in sigmas], self._coordinate(sigma))

    def compare(self, sigma, value, output, history):
        """What was held, compared with ``value``, which a call at ``sigma`` gave: an Errors."""
        nodes = [Errors.coordinate(at) for at in (sigma, *(held.sigma for held in history))]
        known = [history[i - 1] for i in distinct(nodes, self.settings.max_order + 2)[1:]]
        sigmas, values = [held.sigma for held in known], [held.branches[0] for held in known]
        return Errors.measured(sigma, value, sigmas, values, self.interpolation, rms(output).amin())

    def expected(self, visit, history):
        """(order, error to expect) of the best forecast at a visit: what it will do to x, as a share of the guided output.

        As dx = (x - D) dlog(sigma), an error of D counts by the distance in log(sigma) over which it stands in for a call. Of an
        error of x at sigma, Gaussian data of spread SIGMA_DATA keep SIGMA_DATA / hypot(SIGMA_DATA, sigma) at the end, real data
        more, as their details follow x: the root of it is what served the embedded model and a mixture both.
        """
        sigma, errors = visit.sigma, history[0].compared
        order, error = errors.best(sigma)
        error *= self._mix(sigma)[1] if self._mix else 1.0
        error *= math.sqrt(SIGMA_DATA / math.hypot(SIGMA_DATA, sigma))
        return order, error / errors.size * math.log(history[0].sigma / sigma) if errors.size else math.inf
