"""A recorded run as a model of itself: what the denoiser would say near the x that it was asked at, without a call."""

import bisect
import math
from dataclasses import replace
from itertools import pairwise

import torch

from ..forecast import newton_weights
from ..recording import Recorded
from ..schedule import ROUNDED
from .ode import Walker, stops, substeps

SUBSTEPS = 4  # of the corrected solution, in each of the host's steps
MOST = 1.5  # share of an error of x that an output may be thought to follow


class Path:
    """Outputs along a path of x, and so what they would be near it: as they are ``known``, moved by what x is off.

    ``known`` (``Recorded``, (B, n) each) fall in sigma; how far an output follows its x, ``follows`` of each sigma says. ``x`` is
    where the path begins. In between, everything is interpolated along asinh(sigma), not along ``forecast``'s asinh(sigma / 2).
    """

    def __init__(self, known):
        self.known = known
        self.x, self.us = known[0].x, [-math.asinh(visit.sigma) for visit in known]
        self._nodes = {visit.sigma: node for node, visit in enumerate(known)}

    def at(self, sigma):
        """(x, output) on the path at ``sigma``: as known, or in between the output and the noise in x interpolated."""
        if sigma in self._nodes:
            known = self.known[self._nodes[sigma]]
            return known.x, known.output
        parts = [(self.known[node], weight) for node, weight in cubic(self.us, -math.asinh(sigma))]
        output = sum(weight * known.output for known, weight in parts)
        return output + sigma * sum(weight / known.sigma * (known.x - known.output) for known, weight in parts), output

    def output(self, x, sigma):
        """What the output is thought to be at ``x`` (B, n) and ``sigma``."""
        known, output = self.at(sigma)
        return output + self.follows(sigma) * (x - known)

    def corrected(self, sigmas):
        """x at every one of ``sigmas``, (B, n), with most of the path's own error taken out: what is aimed at.

        The outputs along the path are known at some sigmas; in between they are interpolated (cubic, in asinh(sigma)), and where
        the solution leaves the path they follow it. That equation is solved finely, in exponential midpoint steps: deferred
        correction (Dutt, Greengard and Rokhlin, BIT 2000) with one number a sigma for the derivative.
        """
        x, solution = self.x, [self.x]
        for start, end in pairwise(sigmas):
            for near, far in pairwise(substeps(start, end, SUBSTEPS, torch.float64)):
                middle = math.sqrt(near * far)
                half = self._stepped(x, near, middle, near) if middle else x
                x = self._stepped(x, near, far, middle or near, half)
            solution.append(x)
        return solution

    def _stepped(self, x, start, end, sigma, at=None):
        """x after a step from ``start`` to ``end`` with the output at ``sigma`` and ``at``, by default x."""
        return x * (end / start) + self.output(x if at is None else at, sigma) * (1 - end / start)


class Recollection(Path):
    """The path of a recorded run, which answers as a ``host.Probe`` does, for the recorded elements.

    ``visits`` (``Recorded``) are those of ``method`` over ``sigmas`` (floats); where that is None, as for multistep hosts, one a
    node. How far an output follows its x, one number a node (``shifts``), Heun's second visits have measured: there the network
    was asked at two x of one sigma. Others may be ``measured`` later.
    """

    def __init__(self, visits, method, sigmas):
        self.stops, self.sigmas = stops(method or "euler", sigmas), sigmas
        pairs = list(zip(self.stops, visits, strict=False))
        same = all(math.isclose(stop.sigma, visit.sigma or 0, rel_tol=ROUNDED) for stop, visit in pairs)  # as x's dtype has it
        if not same or len(self.stops) != len(visits):
            raise ValueError(f"its {len(visits)} visits are not the {len(self.stops)} that its schedule asks for")
        found = {stop: replace(visit, sigma=stop.sigma) for stop, visit in pairs}
        super().__init__([visit for stop, visit in found.items() if not stop.corrector])  # node by node
        self._measured, self._others = {0: 0.0}, []  # pure noise follows nothing
        for stop, visit in found.items():
            if stop.corrector:
                self.measure(stop.sigma, visit.x, visit.output)
        if method:
            self._require_stepped(visits)

    def measure(self, sigma, x, output):
        """At another ``x`` (B, n) at ``sigma`` there was ``output``: a share of <dD, dx> / <dx, dx>. A node's first counts."""
        self._others.append(Recorded(None, sigma, x, output))
        recorded, known = self.at(sigma)
        off = (x - recorded).double()
        along, square = float(((output - known).double() * off).sum()), float(off.square().sum())
        if square:
            self._measured.setdefault(self.near(sigma), min(max(along / square, 0.0), MOST))

    def retraced(self):
        """The path on which all that was ``measured`` lies."""
        return Retraced(self._others, self)

    @property
    def end(self):
        """x at the end of the run, which is its last output."""
        return self.known[-1].output

    def near(self, sigma):
        """The node that is nearest to ``sigma``."""
        u = -math.asinh(sigma)
        return min(range(len(self.us)), key=lambda node: abs(self.us[node] - u))

    def follows(self, sigma):
        """How far the output at ``sigma`` follows its x."""
        parts, shifts = cubic(self.us, -math.asinh(sigma)), self.shifts
        return min(max(sum(weight * shifts[node] for node, weight in parts), 0.0), MOST)

    @property
    def shifts(self):
        """Node by node; between those that were measured, on a line."""
        measured = sorted(self._measured.items())
        found = [measured[0][1]] * measured[0][0]
        for (node, share), (following, other) in pairwise(measured):
            found += [share + (other - share) * n / (following - node) for n in range(following - node)]
        return found + [measured[-1][1]] * (len(self.known) - len(found))

    def _require_stepped(self, visits):
        """Raise ValueError where the run's sampler has not stepped as is thought."""
        walker = Walker(self.x, self.x)
        for stop, visit in zip(self.stops, visits, strict=True):
            off = float((walker.at - visit.x).norm() / visit.x.norm().clamp(min=1e-12))
            if not off <= 0.02:
                raise ValueError(f"it does not step as it is thought to: at sigma {stop.sigma:.4g} x is {off:.2g} (relative) off")
            walker = Walker(visit.x if not stop.corrector else walker.x, visit.x, walker.d)
            walker.advance(stop, visit.output)

    def denoise(self, x, sigma, branches):
        """[what the output is thought to be at ``x`` (B, n) and ``sigma``]."""
        return [self.output(x, sigma)]

    def guided(self, branches):
        """The one that there is."""
        return branches[0]

    def corrected(self, sigmas=None):
        """As of any path; of the run's own nodes by default."""
        return super().corrected(sigmas or self.sigmas)


class Retraced(Path):
    """Another path from the start of a ``recollection``, nearer to the solution; outputs follow x as along that one."""

    def __init__(self, known, recollection):
        super().__init__(known)
        self.follows = recollection.follows


def cubic(us, u):
    """[(index, weight)] of the values at the four of ``us`` (rising floats) about ``u``, in the polynomial through them."""
    first = min(max(bisect.bisect_right(us, u) - 2, 0), max(len(us) - 4, 0))
    return list(enumerate(newton_weights(us[first : first + 4], u), start=first))
