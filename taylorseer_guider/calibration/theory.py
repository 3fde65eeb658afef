"""What the policy without a calibration would answer at the visits of a walk."""

from ..history import History
from ..report import CALL, FORECAST, Visit


class Theory:
    """The answers of ``policy`` (as ``landing.unfitted`` makes it), along whatever x the walk is led to."""

    def __init__(self, policy):
        self.policy, self.history = policy, History(policy.keep.count)

    def calls(self, stop):
        """Whether the policy itself would call at ``stop``."""
        return self.policy.decide(_visit(stop, ""), self.history)[0] == CALL

    def hold(self, stop, x, guided):
        """A call at ``stop`` gave the ``guided`` output."""
        self.history.take(_visit(stop, CALL), x, [guided], self.policy.keep, self.policy.schedule)
        self._called = guided, stop

    def answer(self, stop, x):
        """The output that the policy has for ``x``."""
        output, called = self._called
        visit = _visit(stop, CALL if called is stop else FORECAST)
        visit.reason = "repeated" if self.history.at(stop.sigma) is not None else "skipped"
        weights = self.policy.weights(visit, self.history)
        return output if weights is None else self.history.weighted(weights, x)


def _visit(stop, action):
    return Visit(stop.step, stop.sigma, action, "", node=stop.step + stop.corrector)
