"""What the policy without a calibration would answer at the visits of a walk."""

from dataclasses import replace

import torch

from ..forecast import Weights
from ..history import History
from ..hosts import SAMPLERS
from ..landing import unfitted
from ..report import CALL, FORECAST, Visit
from ..schedule import Schedule
from .ode import EULER, Walker, stops


class Theory:
    """The answers of ``policy`` (as ``landing.unfitted`` makes it), along whatever x the walk is led to.

    They are made of ``most`` outputs at most, if that is given.
    """

    def __init__(self, policy, most=None):
        self.policy, self.history, self._called = policy, History(min(policy.keep.count, most or policy.keep.count)), None

    def calls(self, stop):
        """Whether the policy itself would call at ``stop``."""
        return self.policy.decide(_visit(stop, ""), self.history)[0] == CALL

    def inputs(self, stop, x):
        """(sigma, x) that the policy itself would call the denoiser with at ``stop``, where the host is at ``x``."""
        sigma, weights = self.policy.inputs(_visit(stop, CALL), self.history) or (stop.sigma, None)
        return sigma, x if weights is None else self.history.weighted(weights, x, dtype=x.dtype).to(x)

    def hold(self, stop, x, guided, sigma=None):
        """A call at ``stop`` gave the ``guided`` output, that of another ``sigma`` if it is given."""
        visit = replace(_visit(stop, CALL), asked=sigma)
        self.history.take(visit, x, [guided], self.policy.keep, self.policy.schedule)
        self._called, self._output = stop, guided

    def answer(self, stop, x):
        """The output that the policy has for ``x``."""
        asked = self._asked(stop)
        return self._output if asked is None else self.history.weighted(asked, x)

    def weights(self, stop):
        """Of x and of the outputs held, newest first, in that answer: floats."""
        found = self._asked(stop) or Weights(0.0, (1.0,), (), 0, 1.0)
        return [found.x, *found.outputs, *[0.0] * (len(self.history) - len(found.outputs))]

    def _asked(self, stop):
        visit = _visit(stop, CALL if self._called is stop else FORECAST)
        return self.policy.weights(visit, self.history)


def walked(asked, theory, visits, first=None, notice=None):
    """The x where ``theory`` leads over ``visits`` (``Stop``), with calls of ``asked``: what has ``x`` and ``denoise``.

    ``first`` is the output at the start, where it is known; ``notice(sigma, x, output)`` is told of each call.
    """
    walker = Walker(asked.x, asked.x)
    for stop in visits:
        if theory.calls(stop):
            known = first is not None and not len(theory.history)
            sigma, x = theory.inputs(stop, walker.at)
            output = first if known else asked.guided(asked.denoise(x, sigma, 1))
            theory.hold(stop, walker.at, output, sigma)
            if notice:
                notice(sigma, x, output)
        walker.advance(stop, theory.answer(stop, walker.at))
    return walker.x


def policy_over(sigmas, settings, scale):
    """That of ``settings`` without a calibration, in Euler's steps over ``sigmas`` (floats), at a guidance ``scale``."""
    return unfitted(settings, Schedule(torch.tensor(sigmas, dtype=torch.float64, device="cpu")), SAMPLERS[EULER], scale)


def weights_of(policy, sigmas, nodes, most=None):
    """Of x and of outputs, newest first, in the answers of ``policy`` at each visit of Euler's over ``sigmas``, ``nodes`` called.

    They depend on nothing else, so no output is needed.
    """
    theory, nothing, found = Theory(policy, most), torch.zeros(1, device="cpu"), []
    for stop in stops("euler", sigmas):
        if stop.step in nodes:
            theory.hold(stop, nothing, nothing)
        found.append(theory.weights(stop))
    return found


def _visit(stop, action):
    return Visit(stop.step, stop.sigma, action, "", node=stop.step + stop.corrector)
