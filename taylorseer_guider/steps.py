"""How multistep hosts step, as data, and what makes them end where an answer would have led Euler's method.

A host of this family makes an affine step of what it was answered, now and before. So an answer that was made for Euler's step,
which leads to x' = r x + (1 - r) e with r = end / start, becomes the host's by solving its step for the newest answer:

    DPM++2M:  x' = r x + (1 - r) (m3 D - m4 D_1)                  D = (e + m4 D_1) / m3
    LMS:      x' = x + sum_i c_i d_i,  d = (x - D) / sigma        d = ((end - start) (x - e) / start - sum_{i>0} c_i d_i) / c_0

What was answered before dies away in it: by m4 / m3, about a third a step, and by powers of the zeros of sum_i c_i z^-i, which
lie within .64 on an even schedule of order 4.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from .forecast import newton_weights, nonzero, weighted_sum
from .trust import unfit


class Step(Protocol):
    """How a multistep host steps."""

    earlier: int  # answers that a step is made of, beside the newest

    def on(self, sampler: object) -> "Step | None":
        """The same as ``sampler`` does it; None for one that is not known here."""

    def kept(self, sigma: float) -> tuple[float, float]:
        """What is to be remembered of a visit: the weights of its x and of its answer."""

    def solved(self, end: float, sigmas: list[float]) -> tuple[float, ...]:
        """The newest answer, at ``sigmas[0]``, as weights of (x, Euler's answer, what was kept at each older of ``sigmas``)."""


@dataclass(frozen=True)
class DPMPP2M:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2): of first order at its beginning, and where it ends at 0."""

    earlier: int = 1

    def on(self, sampler):
        return self

    def kept(self, sigma):
        return 0.0, 1.0

    def solved(self, end, sigmas):
        if end in (0, sigmas[0]) or len(sigmas) == 1 or sigmas[1] == sigmas[0]:  # where nothing moves, or the host divides by 0
            return 0.0, 1.0, *[0.0] * (len(sigmas) - 1)
        m4 = math.log(sigmas[0] / end) / (2 * math.log(sigmas[1] / sigmas[0]))
        return 0.0, 1 / (1 + m4), m4 / (1 + m4)


@dataclass(frozen=True)
class LinearMultistep:
    """Adams and Bashforth's method of an ``order`` up to 4 on uneven sigmas, of less at its beginning.

    Where its schedule falls to 0, its last step goes there by the polynomial too, or ``ends`` at the output, as Euler's does.
    """

    order: int = 4
    ends: bool = False

    @property
    def earlier(self):
        return self.order - 1

    def on(self, sampler):
        order = getattr(sampler, "order", None)
        return replace(self, order=order) if order in (1, 2, 3, 4) else None

    def kept(self, sigma):
        return 1 / sigma, -1 / sigma

    def solved(self, end, sigmas):
        start = sigmas[0]
        if (end == 0 and self.ends) or end == start:
            return 0.0, 1.0, *[0.0] * (len(sigmas) - 1)
        newest, *older = self.coefficients(end, sigmas)
        share = (end - start) / newest
        return 1 - share, share, *(start * each / newest for each in older)

    @staticmethod
    def coefficients(end, sigmas):
        """c_i: integrals of the Lagrange polynomials of ``sigmas`` from the first of them to ``end``, by Simpson's rule."""
        start = sigmas[0]
        at = [newton_weights(sigmas, sigma) for sigma in (start, (start + end) / 2, end)]
        return [(end - start) / 6 * (a + 4 * b + c) for a, b, c in zip(*at, strict=True)]


@dataclass(frozen=True)
class Told:
    """What a run has remembered of one answer: a tensor of its own."""

    node: int
    sigma: float
    kept: torch.Tensor

    def serves(self, node, like):
        return self.node == node and (self.kept.shape, self.kept.device) == (like.shape, like.device)


class Answers:
    """What a run has answered of late, newest first, as its host's ``step`` needs it. ``schedule`` is the run's."""

    def __init__(self, step, schedule):
        self.step, self.schedule = step, schedule
        self._told = deque(maxlen=step.earlier)

    @property
    def tensors(self):
        return [told.kept for told in self._told]

    def known(self, visit, x):
        """Whether all that the host's step at ``visit`` is made of is remembered: of the nodes just before, and like ``x``."""
        node = visit.node
        if not self.schedule.is_at(node, visit.sigma):
            return False
        told = list(self._told)[:node]
        return len(told) == min(node, self.step.earlier) and all(one.serves(node - n, x) for n, one in enumerate(told, start=1))

    def solved(self, visit, x, answer, own):
        """What leads the host where ``answer`` would have led Euler's method: written into it, if it is the run's ``own``."""
        sigmas = [self.schedule.nodes[visit.node], *(told.sigma for told in self._told)]
        of_x, of_answer, *others = self.step.solved(self.schedule.end(visit.node), sigmas)
        pairs = [(of_answer, answer), (of_x, x.to(answer.device)), *zip(others, self.tensors, strict=True)]
        weights, tensors = nonzero(pairs)
        return answer if weights == (1.0,) else weighted_sum(weights, tensors, out=answer if own else None)

    @torch.no_grad()
    def remember(self, visit, x, answer):
        """``visit`` at ``x`` was answered so, whoever made the answer."""
        if not self.step.earlier:
            return
        oldest = self._told.pop().kept if len(self._told) == self.step.earlier else None
        lost = visit.node is None or visit.sigma is None or not torch.is_tensor(answer) or unfit(answer)
        of_x, of_answer = (0.0, 0.0) if lost else self.step.kept(visit.sigma)
        if lost or (of_x and answer.shape != x.shape):  # the host broadcasts it
            self._told.clear()
            return
        if oldest is None or (oldest.shape, oldest.dtype, oldest.device) != (answer.shape, answer.dtype, answer.device):
            with torch.inference_mode(False):  # so that visits may write into it in either mode
                oldest = torch.empty_like(answer, memory_format=torch.contiguous_format)
        pairs = [(of_answer, answer), (of_x, x.to(answer.device))]
        weights, tensors = nonzero(pairs)
        sigma = self.schedule.nodes[visit.node]
        self._told.appendleft(Told(visit.node, sigma, weighted_sum(weights, tensors, out=oldest)))
