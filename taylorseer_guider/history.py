"""What a run holds of the outputs that the denoiser gave: copies, the newest few, and the weighted sums that are made of them."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

from .forecast import LARGE, QUANTITIES, block_means, weigh, weighted_sum
from .memory import Memory
from .schedule import NEAR


@dataclass(frozen=True)
class Held:
    """One output of the denoiser, or what stands for it: copies that nobody else holds or writes."""

    sigma: float
    step: int | None
    node: int | None
    branches: tuple[torch.Tensor, ...]  # (B, ...) each
    means: tuple[torch.Tensor, ...] = ()
    compared: Any = None  # what ``Keep.compare`` told
    slot: int | None = None  # of the slab that the branches lie in


class History:
    """The newest outputs, newest first."""

    def __init__(self, count):
        self._held = deque(maxlen=int(count))
        self._slab = None  # (slots, branches, B, ...): large outputs on a CPU, side by side so that one product weighs them all
        self._out = None  # dtype and device of the outputs as they came
        self._memory = Memory()

    def __iter__(self):
        return iter(self._held)

    def __len__(self):
        return len(self._held)

    def __getitem__(self, index):
        return self._held[index]

    def at(self, sigma):
        """What is held of ``sigma``, or None."""
        return next((held for held in self._held if math.isclose(held.sigma, sigma, rel_tol=NEAR)), None)

    def take(self, visit, x, branches, keep, schedule):
        """Hold what ``keep`` (a ``policy.Keep``) says of the ``branches`` that a call at ``visit`` and its ``x`` gave."""
        count = self._held.maxlen
        older = [held for held in self._held if visit.node is None or held.node != visit.node]  # the newer takes its place
        self._held.clear()
        self._held.extend(older if keep.compare else older[: count - 1])
        slot, rows = self._rows(branches, keep, count + bool(keep.compare))
        sigma = visit.sigma if visit.asked is None else visit.asked
        values = tuple(_kept(sigma, x, *pair, keep, schedule) for pair in zip(branches, rows, strict=True))
        compared = keep.compare and keep.compare(sigma, values[0], branches[0], self)
        means = tuple(map(block_means, values)) if keep.means else ()
        self._held.appendleft(Held(sigma, visit.step, visit.node, values, means, compared, slot))
        self._out = branches[0].dtype, branches[0].device

    def _rows(self, branches, keep, slots):
        """(a slot of the slab that nothing held lies in, its rows); (None, Nones) where outputs are better held apart."""
        first, dtype = branches[0], keep.dtype or branches[0].dtype
        on_cpu = first.device.type == "cpu" == (keep.device or first.device).type
        if not on_cpu or first.numel() < LARGE or dtype not in (torch.float32, torch.float64):
            return None, [None] * len(branches)
        shape = (slots, len(branches), *first.shape)
        if self._slab is None or self._slab.shape != shape or self._slab.dtype != dtype:
            with torch.inference_mode(False):  # so that visits may write into it in either mode
                self._slab = torch.empty(shape, dtype=dtype, device="cpu")
        taken = {held.slot for held in self._held}
        slot = next(slot for slot in range(slots) if slot not in taken)
        return slot, list(self._slab[slot])

    def weighted(self, weights, x, totals=None, dtype=None):
        """The sum that ``weights`` (a ``Weights``) ask for, of the outputs' dtype and device, in memory that nobody else has.

        Or of another ``dtype``. The list ``totals``, if given, is told the totals of its parts.
        """
        (own, device), newest = self._out, self._held[0].branches[0]
        dtype = dtype or own
        mapped = device.type == newest.device.type == "cpu" and newest.numel() >= LARGE  # smaller memory is there already
        out = self._memory.empty(newest.shape, dtype) if mapped else None
        return weigh(weights, x.to(newest.device), self.branches, self.means, dtype, out, totals).to(device)

    def clear(self):
        self._held.clear()
        self._slab = None
        self._memory.clear()

    @property
    def branches(self):
        return [branch for held in self._held for branch in held.branches]

    @property
    def means(self):
        return [mean for held in self._held for mean in held.means]


def _kept(sigma, x, output, row, keep, schedule):
    """A copy of ``output``, or of the quantity that stands for it, as it is held: in ``row``, if that is given."""
    dtype = keep.dtype or output.dtype
    if mix := QUANTITIES[keep.quantity]:
        skip, out = mix(sigma)
        value = weighted_sum([skip * schedule.unscale(sigma) / out, -1 / out], [x, output], dtype, out=row)
    else:
        value = output.detach().to(dtype, copy=True) if row is None else row.copy_(output.detach())
    return value.to(keep.device or value.device)
