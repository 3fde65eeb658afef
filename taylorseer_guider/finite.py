"""Whether tensors are finite, told without waiting for the device."""

import math
from collections import deque

import torch

LATE = 2  # visits after which a sum of the device is read at the latest


def total_of(tensor):
    """The sum of all elements, finite where they are: float32, or float64 of one that is."""
    return tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))


class Late:
    """A number of the device that is read when it has long been there, so that nobody waits for the queue."""

    def __init__(self, number):
        self._number, self._there = number, None
        if number.is_cuda:
            self._number = number.to("cpu", non_blocking=True)  # into pinned memory
            self._there = torch.cuda.Event()
            self._there.record(torch.cuda.current_stream(number.device))

    def read(self):
        if self._there is not None:
            self._there.synchronize()
        return self._number.item()


class Finite:
    """The sums of the outputs of one run, each of which tells whether its tensor was finite.

    On a CPU a sum is read at once; elsewhere ``LATE`` visits later, or when the run ends.
    """

    def __init__(self):
        self._unread = deque()  # (visit, fault, Late)

    def note(self, tensor, visit, fault, totals=()):
        """Sum ``tensor``, which ``visit`` gave; ``fault``, with {visit}, is what to say where it is not finite.

        ``totals`` are those of its parts, where they are known. Raises FloatingPointError with it, on a CPU at once.
        """
        if tensor.is_meta:
            return
        total = sum(totals[1:], totals[0]) if totals else total_of(tensor.detach())
        if tensor.device.type != "cpu":
            self._unread.append((visit, fault, Late(total)))
        elif not math.isfinite(total.item()):
            raise FloatingPointError(fault.format(visit=visit))

    def read(self, last):
        """Raise FloatingPointError for what was not finite up to the visit of number ``last``."""
        while self._unread and self._unread[0][0].number <= last:
            visit, fault, total = self._unread.popleft()
            if not math.isfinite(total.read()):
                raise FloatingPointError(fault.format(visit=visit))
