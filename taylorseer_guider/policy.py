"""The contract between a run and whoever answers its visits: what is decided, what is held, what is weighed."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch

from .report import CALL, Visit
from .schedule import NEAR


class Weights(NamedTuple):
    """A weighted sum to be made: ``sum_j weight_j * tensor_j``."""

    x: float  # of the x of the visit
    outputs: tuple[float, ...]  # of the branches of held outputs, newest output first; trailing zeros may be left out
    means: tuple[float, ...]  # of the 4x4 block means of the same tensors, x first; () where none are weighed
    order: int  # outputs that it is made from, less one
    size: float  # sum of |weights| of the outputs: how much errors of theirs are amplified
    error: float | None = None  # to expect, where that is known


@dataclass(frozen=True)
class Keep:
    """What history holds of an output that the denoiser gave.

    ``count`` newest outputs are held. The ``branches`` of a raw output are held apart where there are 2 (uncond first); else the
    guided output, or, where ``recombine`` and the guider combines differently from visit to visit, the raw one. ``quantity``
    says what is held in place of the output D. ``means``: 4x4 block means, too. ``fitted``: answers are checked for finiteness,
    and one scale and shape serve the whole run. ``compare(sigma, value, output, history)`` tells how far off forecasts of the
    new ``value`` would have been.
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


@dataclass(frozen=True)
class Held:
    """One output of the denoiser, or what stands for it: copies that nobody else holds or writes."""

    sigma: float
    step: int | None
    node: int | None
    branches: tuple[torch.Tensor, ...]  # (B, ...) each
    means: tuple[torch.Tensor, ...] = ()
    compared: Any = None  # what ``Keep.compare`` told


class History:
    """The newest outputs, newest first."""

    def __init__(self, count):
        self._held = deque(maxlen=count)

    def __iter__(self):
        return iter(self._held)

    def __len__(self):
        return len(self._held)

    def __getitem__(self, index):
        return self._held[index]

    def at(self, sigma):
        """What is held of ``sigma``, or None."""
        return next((held for held in self._held if math.isclose(held.sigma, sigma, rel_tol=NEAR)), None)

    def without(self, node):
        """The same without what is held of ``node``: a newer output at it takes its place."""
        other = History(self._held.maxlen)
        other._held.extend(held for held in self._held if held.node != node)
        return other

    def put(self, held):
        self._held.appendleft(held)

    def clear(self):
        self._held.clear()

    @property
    def branches(self):
        return [branch for held in self._held for branch in held.branches]

    @property
    def means(self):
        return [mean for held in self._held for mean in held.means]


class Policy(Protocol):
    """Who answers the visits of a run. Immutable: all that changes is in the ``history`` that it is shown."""

    keep: Keep

    def decide(self, visit: Visit, history: History) -> tuple[str, str]:
        """(``CALL`` or ``FORECAST``, the reason for it) at ``visit``, whose step, sigma, node and number are known."""

    def weights(self, visit: Visit, history: History) -> Weights | None:
        """The weighted sum that answers ``visit``; None where the answer is the output of the call that was made there.

        At a call, ``history`` holds its output already.
        """


@dataclass(frozen=True)
class Everything:
    """The policy that calls at every visit and holds nothing: the host's own guider."""

    reason: str
    keep: Keep = Keep()

    def decide(self, visit, history):
        return CALL, self.reason

    def weights(self, visit, history):
        return None
