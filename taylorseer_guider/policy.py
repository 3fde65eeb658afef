"""The contracts of a run: with whoever answers its visits (what is decided, held and weighed), and with whom it belongs to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch

from .forecast import Weights
from .history import History
from .report import CALL, Report, Visit
from .steps import Step


@dataclass(frozen=True)
class Keep:
    """What history holds of an output that the denoiser gave.

    ``count`` newest outputs are held. The ``branches`` of a raw output are held apart where there are 2 (uncond first); else the
    guided output, or, where ``recombine`` and the guider combines differently from visit to visit, the raw one. ``quantity``
    says what is held in place of the output D. ``means``: 4x4 block means, too. ``fitted``: answers are checked for finiteness,
    and one scale and shape serve the whole run. ``compare(sigma, value, output, history)`` tells how far off forecasts of the
    new ``value`` would have been. ``record``: bytes that a recording of the run may take, 0 where none is made. ``step``: that of
    a multistep host, for which answers that are made for Euler's are solved.
    """

    count: int = 0
    branches: int = 1
    recombine: bool = False
    quantity: str = "denoised"
    quantity_is_auto: bool = False
    means: bool = False
    fitted: bool = False
    dtype: torch.dtype | None = None
    device: torch.device | None = None
    compare: Callable | None = field(default=None, repr=False)
    record: int = 0
    step: Step | None = None


class Policy(Protocol):
    """Who answers the visits of a run. Immutable: all that changes is in the ``history`` that it is shown.

    Where its ``keep.quantity_is_auto``, it also has ``forecasting(quantity)``: the same policy for another quantity.
    """

    keep: Keep
    first: int  # the node that the run begins at, as far as it matters here

    def beginning(self, node: int) -> "Policy":
        """The same policy for a run that begins at ``node``."""

    def decide(self, visit: Visit, history: History) -> tuple[str, str]:
        """(``CALL`` or ``FORECAST``, the reason for it) at ``visit``, whose step, sigma, node and number are known."""

    def inputs(self, visit: Visit, history: History) -> tuple[float, Weights] | None:
        """What the denoiser is called with at ``visit``: (sigma, the weighted sum that is x); None where those are the host's."""

    def weights(self, visit: Visit, history: History) -> Weights | None:
        """The weighted sum that answers ``visit``; None where the answer is the output of the call that was made there.

        At a call, ``history`` holds its output already.
        """


class Owner(Protocol):
    """Whom a run belongs to. Where it has a ``scale``, outputs at another one are not forecast from.

    Where its policies record, it also has ``learn_from(run)`` for a run that has ended well.
    """

    shares_plan: bool  # whether its run was planned beside others', and begins where those do, whenever it is asked first

    def finished(self, report: Report) -> None:
        """A run has ended; ``report`` is what it did."""


@dataclass(frozen=True)
class Everything:
    """The policy that calls at every visit and holds nothing: the host's own guider."""

    reason: str
    keep: Keep = Keep()
    first: ClassVar[int] = 0

    def beginning(self, node):
        return self

    def decide(self, visit, history):
        return CALL, self.reason

    def inputs(self, visit, history):
        return None

    def weights(self, visit, history):
        return None
