"""What runs with fewer calls would end at, told from the full run alone; and which of them to make.

The recorded run answers in the denoiser's place (``recall``), the policy is the very one that a run would have, and the walk is
the sampler's own. So a run is made in some milliseconds, without a call.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ...calibration.learn import problem_over
from ...calibration.ode import stops
from ...calibration.squares import near
from ...calibration.theory import Theory, walked
from ...calibration.walk import fit, given
from ...forecast import COORDINATES, QUANTITIES
from ...landing import unfitted
from ...plan import with_calls
from ...recording import Recorded
from ...settings import Settings
from .recall import Recall, widened

CALLS = range(5, 21)
SCOUT = 8  # calls by which Euler's method, which asks once a node, learns how outputs follow x
CLEAR = 1.0  # dB by which other options must be better, at their low ends
TINY = 1e-20  # mean square that counts as none: 206 dB in the usual range
SOLVERS = [{}, {"max_order": 1}, {"max_order": 2}, {"max_order": 3}]  # the default first
ORDERS = (1, 2)  # of plain forecasts


@dataclass(frozen=True)
class Foretold:
    """How near a run with these options would come to the full run: PSNR in dB, between ``low`` and ``high``."""

    calls: int
    params: dict  # beside calls
    low: float
    high: float

    @property
    def middle(self):
        return (self.low + self.high) / 2

    @property
    def options(self):
        """What to write under the guider's ``params``."""
        return {"calls": self.calls, **self.params}


@dataclass(frozen=True)
class Foresight:
    """Foretells runs from one ``course`` (reduced), whose samples have the range ``peak``. ValueError where it cannot."""

    course: object
    peak: float = 2.0

    def __post_init__(self):
        if self.course.stepping.method is None:
            raise ValueError("fewer calls are foretold for Euler's and Heun's samplers alone; map the model with one")
        _ = self.recalls

    @cached_property
    def recalls(self):
        """(too hard, too kind): what the denoiser would say, in both ways."""
        return tuple(Recall(self.course, drawn) for drawn in (True, False))

    @cached_property
    def solution(self):
        """x (B, 2 k) at every node of what the full run solves, nearly."""
        return self.recalls[1].corrected()

    def of(self, calls, **params):
        """The Foretold of one run."""
        ends = [walked(recall, Theory(self.policy(calls, params)), recall.stops) for recall in self.recalls]
        return self._ended(calls, params, ends)

    def policy(self, calls, params):
        course = self.course
        return unfitted(Settings(calls=calls, **params), course.schedule, course.stepping, course.scale)

    def _ended(self, calls, params, ends):
        return Foretold(calls, params, *sorted(self.decibels(end, widened(self.course.end)) for end in ends))

    def decibels(self, x, other):
        return decibels(x, other, self.course.elements, self.peak)

    def full_run(self):
        """dB of the full run to what it solves, nearly."""
        return self.decibels(widened(self.course.end), self.solution[-1])

    def learnt(self, calls, other):
        """The Foretold of ``learn: true``: weights learnt from this course, on the ``other`` one, which they have not seen."""
        sigmas, nodes = with_calls(self.course.schedule.keys, self.policy(calls, {}).called)
        ends = []
        for recall, unseen in zip(self.recalls, other.recalls, strict=True):
            weights = [row.weights for row in fit(self._problem(recall, calls, sigmas), nodes, near).budget.rows]
            ends += fit(other._problem(unseen, calls, sigmas), nodes, given(weights)).ends
        return other._ended(calls, {"learn": True}, ends)

    def _problem(self, recall, calls, sigmas):
        """What ``learn`` fits where it aims at the recorded run, with the answers of ``recall``, over ``sigmas``."""
        solution, first = self.recalls[1].corrected(sigmas), recall.known[0].output
        return problem_over(sigmas, recall, solution, first, Settings(calls=calls), self.course.scale, self.peak)


def scouted(course, probe, some):
    """``course`` with what a walk with ``SCOUT`` real calls of ``probe`` shows of how outputs follow x; for Euler's method."""
    found, calls = [], min(SCOUT, len(course.schedule.nodes))

    def notice(sigma, x, output):
        found.append(Recorded(None, sigma, some(x), some(output)))

    policy = unfitted(Settings(calls=calls), course.schedule, course.stepping, course.scale)
    with torch.no_grad():
        walked(probe, Theory(policy), stops(course.stepping.method, course.schedule.keys), notice=notice)
    return replace(course, scouted=tuple(found))


def candidates(outputs):
    """Options beside ``calls`` to try, the default first: the solver's orders, and plain forecasts of each quantity in the
    coordinate in which this run's outputs were foretold best.
    """
    plain = [
        {"max_order": order, "forecast": {"quantity": quantity, "coordinate": best_coordinate(outputs, quantity, order)}}
        for quantity in QUANTITIES
        for order in ORDERS
    ]
    return [*SOLVERS, *plain]


def best_coordinate(outputs, quantity, order):
    """That of the least error over the nodes, at ``interval: 2``."""
    squares = {name: outputs.errors(quantity, name)[order, 0].square().nanmean().item() for name in COORDINATES}
    return min(squares, key=squares.get)


def decibels(x, other, elements, peak):
    """The mean PSNR of the samples: x (B, k) are ``elements`` numbers each, in coordinates that keep lengths."""
    squares = (x.double() - other.double()).square().sum(1) / elements
    return float((10 * torch.log10(peak**2 / squares.clamp(min=TINY))).mean())


def best_of(rows, learnt):
    """{calls: the best of ``rows`` (``Foretold``) and ``learnt``, by its low end}.

    The first, the default, unless another is clearly better; ``learn``, which begins with a full run, where it is so again.
    """
    found = {}
    for calls in sorted({row.calls for row in rows}):
        default, *others = (row for row in rows if row.calls == calls)
        best = _clearly(default, max(others, key=lambda row: row.low, default=default))
        found[calls] = _clearly(best, learnt.get(calls, best))
    return found


def _clearly(one, other):
    return other if other.low >= one.low + CLEAR else one


def chosen(best, target):
    """(the Foretold of the fewest calls that come within ``target`` dB of the full run at the low end, True), or (the nearest,
    False) where none does.
    """
    enough = [row for row in best.values() if row.low >= target]
    return (enough[0], True) if enough else (max(best.values(), key=lambda row: row.low), False)
