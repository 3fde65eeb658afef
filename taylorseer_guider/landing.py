"""The policy without a calibration where it is known how the host steps: a solver with a corrector, on whose path hosts land.

With z = 1 / sigma, dx/dsigma = (x - D) / sigma says d(x z) = D dz. Through the outputs that are held runs a polynomial P in a
coordinate of sigma, and where it leads to is known exactly,

    x' z' = x z + integral of P dz from z to z',

so a step of Euler's method goes there if its output is the mean of P over that stretch of z: that is what each visit is
answered with. When a call has given a new output at sigma_k, the polynomial that led there from the call before is known to have
missed its next term, so x is known to be off by

    off = sigma_k * integral of (P with the new output - P without) dz from z_{k-1} to z_k,

and the answer at the call puts that right. It is the corrector of UniPC (arXiv 2302.04867, section 3.1), which costs no call. The
network is not asked again at the x that was put right, though, and guided outputs turn with x by the scale: where a gap is wide
and guidance strong, x is put right by a share only. Here the polynomial is one of asinh(sigma / 2), the coordinate `asinh` of
``forecast``, not of log(sigma), and it is the host's own steps that land on it: Heun's predictor as Euler's, and its corrector is
answered so that x stays where it is, or is put right. What was made for Euler's step is solved for that of a multistep host by
``steps``.

As the path is known at every sigma, calls need not be made at the host's. Where only their number is given, they have even gaps
(``plan.evenly``), and at the node that is nearest to sigma_k the denoiser is asked at sigma_k, about the x of the path there.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from operator import mul

from .forecast import Weights, distinct, newton_weights, placed
from .interpolate import Interpolate
from .plan import evenly
from .report import CALL
from .schedule import NEAR
from .settings import USUAL_SCALE
from .steps import Step
from .values import largest

STEADY = 4.5  # the longest gap in log(sigma), times the guidance scale, after which x is wholly put right
PIECES = 8  # of Simpson's rule for each unit of log(sigma)


@dataclass(frozen=True)
class Landing(Interpolate):
    """Answers that lead a sampler along the solver's path, be its steps Euler's, Heun's (``heun``) or a multistep ``step``."""

    heun: bool = False
    step: Step | None = None
    scale: float = 1.0  # of guidance
    free: bool = False  # whether calls are made where their gaps are even, and not at the host's sigmas

    @cached_property
    def keep(self):
        return replace(super().keep, count=self.settings.max_order + 2, step=self.step)

    @cached_property
    def called(self):
        """{node: the sigma that is called there}."""
        nodes = self.schedule.nodes
        if self.free:
            return {self.first + node: at for node, at in evenly(nodes[self.first :], self.calls).items()}
        return {node: nodes[node] for node, planned in enumerate(super()._planned()) if planned}

    def _planned(self):
        return tuple(node in self.called for node in range(len(self.schedule.nodes)))

    def _known(self, visit, history):
        if not self.schedule.is_at(visit.node, visit.sigma):
            return super()._known(visit, history)
        return next((held for held in history if held.node == visit.node), None)

    def inputs(self, visit, history):
        node, at = visit.node, self.called.get(visit.node)
        if at is None or not len(history) or not self.schedule.is_at(node, visit.sigma):
            return None
        sigma = self.schedule.nodes[node]
        if math.isclose(at, sigma, rel_tol=NEAR):
            return None
        means, order = self._means([held.sigma for held in history], sigma, at)
        outputs = tuple((1 - at / sigma) * mean for mean in means)
        return at, Weights(at / sigma, outputs, (), order, sum(map(abs, outputs)))

    def weights(self, visit, history):
        step, sigmas = self._step(visit), [held.sigma for held in history]
        called = visit.action == CALL
        corrector = step is not None and step != visit.node
        if step is None or (called and corrector and len(sigmas) == 1):
            return None if called else super().weights(visit, history)
        start, end = self.schedule.nodes[step], self.schedule.end(step)
        unknown = int(called and corrector)  # to the predictor of this step: the newest output
        found, order = self._means(sigmas, start, end, unknown)
        if called and 0 < end < start:
            share = (2 if corrector else 1) * end / (start - end)
            found = [mean + share * off for mean, off in zip(found, self._off(sigmas, visit), strict=True)]
        return Weights(0.0, tuple(found), (), order, sum(map(abs, found)))

    def _step(self, visit):
        """The step that a visit serves: that of its node, or, for Heun's corrector, the one before. None at no node."""
        node = visit.node
        if not self.schedule.is_at(node, visit.sigma):
            return None
        ahead = visit.number % 2 == 1 if visit.step is None else node > visit.step
        return node - 1 if self.heun and ahead and node else node

    def _means(self, sigmas, start, end, unknown=0):
        """(weights of the outputs at ``sigmas``, newest first, in the mean of P from ``start`` to ``end``, the order of P).

        The first ``unknown`` of them are left out of P.
        """
        return placed_weights(self._coordinate, tuple(sigmas), start, end, unknown, self.settings.max_order)

    def _off(self, sigmas, visit):
        """Weights of the outputs at ``sigmas``, the newest a call's, in how far x is off at ``visit``, to be added to it."""
        if len(sigmas) == 1:
            return [0.0]
        here, (newest, before) = self.schedule.nodes[visit.node], sigmas[:2]
        gap = max(self.scale, 1.0) * math.log(before / newest)
        if gap <= STEADY:
            return self._apart(sigmas, before, here, here)
        share = STEADY / gap
        corrected, other = self._apart(sigmas, before, newest, here), self._apart(sigmas, newest, here, here)
        return [share * a + b for a, b in zip(corrected, other, strict=True)]

    def _apart(self, sigmas, start, end, here):
        """Weights in how far two paths from ``start`` to ``end``, with the newest output and without, lie apart at ``here``."""
        (knowing, _), (foretold, _) = self._means(sigmas, start, end), self._means(sigmas, start, end, unknown=1)
        stretch = here * (1 / end - 1 / start)  # of z, in units of 1 / here
        return [stretch * (a - b) for a, b in zip(knowing, foretold, strict=True)]


def unfitted(settings, schedule, stepping, scale, movable=True):
    """The policy without a calibration for a sampler of which ``stepping`` is known, at a guidance ``scale``.

    ``movable`` says whether the denoiser can be called at other sigmas than the host's.
    Of a tensor of scales, as video guiders have, the largest counts. ValueError where the settings do not fit the schedule.
    """
    scale = largest(scale)
    strength = scale if math.isfinite(scale) else USUAL_SCALE
    lands = settings.may_land and (stepping.method is not None or stepping.step is not None)
    falls = bool(schedule.nodes) and all(a >= b for a, b in pairwise(schedule.nodes))
    spreads = falls and (movable if lands else stepping.noisy)  # others stay near their own steps by calling at every second node
    half = settings.plans_nothing and spreads
    free = lands and movable and (half or settings.calls is not None) and settings.step_threshold is None
    settings = replace(settings, max_order=settings.order_on(stepping.stirs, lands, scale, free))
    if lands:
        heun = stepping.method == "heun"
        return Landing(settings, schedule, half=half, heun=heun, step=stepping.step, scale=strength, free=free)
    return Interpolate(settings, schedule, settings.forecast.quantity_on(stepping.noisy or schedule.rising), half=half)


@lru_cache(maxsize=2048)  # Heun asks twice a step, and every picture of a schedule asks alike
def placed_weights(coordinate, sigmas, start, end, unknown, order):
    """(``mean_weights`` of the outputs at ``sigmas`` (a tuple) but for the first ``unknown``, their order, ``order`` at most)."""
    chosen = [unknown + i for i in distinct([coordinate(sigma) for sigma in sigmas[unknown:]], order + 1)]
    weights = mean_weights(coordinate, tuple(sigmas[i] for i in chosen), start, end)
    return tuple(placed(chosen, weights, len(sigmas))), len(chosen) - 1


def mean_weights(coordinate, nodes, start, end):
    """Weights of outputs at ``nodes`` (a tuple) in the mean of their polynomial over 1 / sigma from ``start`` to ``end``.

    To an ``end`` of 0 it is the polynomial at ``start``: samplers end at the output of the last node.
    """
    us = [coordinate(sigma) for sigma in nodes]
    if end in (0, start):
        return tuple(newton_weights(us, coordinate(start)))
    points, shares = simpson(max(start, end), min(start, end))
    each = [newton_weights(us, coordinate(point)) for point in points]
    return tuple(sum(map(mul, shares, weights)) for weights in zip(*each, strict=True))


def simpson(start, end):
    """(sigmas from ``start`` to ``end``, their shares in a mean over 1 / sigma), by Simpson's rule in log(sigma)."""
    length = math.log(start / end)
    pieces = 2 * math.ceil(PIECES * length / 2)
    points = [start * math.exp(-length * i / pieces) for i in range(pieces + 1)]
    shares = [(1 if i in (0, pieces) else 4 if i % 2 else 2) / point for i, point in enumerate(points)]
    return points, [share / sum(shares) for share in shares]
