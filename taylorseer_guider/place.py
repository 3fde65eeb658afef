"""Where a sampler is on its schedule: by the steps that it announces, else by its visits and what is known of how it steps."""

import math
from functools import cached_property

from .schedule import NEAR
from .trust import transformed, wrapped


class Place:
    """How far a loop over ``schedule`` has come.

    Each of its steps makes so many ``visits``, None where that is not known (``hosts.Stepping``). ``step`` is the one that it has
    announced, None before and without, ``visited`` are the sigmas that were answered since. ``missed``: one was announced and
    taken without a visit here.
    """

    def __init__(self, schedule, visits):
        self.schedule, self.visits = schedule, visits
        self.step, self.visited, self.missed = None, [], False
        self._in_part = False

    def announce(self, step):
        """The sampler takes ``step`` next."""
        self.missed = self.missed or (self.step is not None and not self.visited)
        self.step, self.visited = step, []

    def leave_steps(self):
        """The loop walks a part of the schedule, and its steps are not those: each begins at the node of its first visit."""
        self.visits, self._in_part = None, True

    def key(self, key):
        """The schedule's entry that a visit at ``key`` (B,) is at; NaN where the samples of the batch differ.

        A sampler that keeps to its schedule has said where it is by the step that it announced: the device is not asked.
        """
        if key.device.type != "cpu" and self.expects_more():
            return self.schedule.rounded(key.dtype)[self.step + len(self.visited)]
        if transformed(key) or wrapped(key):
            return math.nan
        shared = set((key.real if key.is_complex() else key).flatten().tolist())
        return shared.pop() if len(shared) == 1 else math.nan

    def node(self, key, dtype):
        """The node of a visit at a ``key`` that was read off a tensor of ``dtype``: None where it is at none."""
        if self._in_part and not self.visited:
            self.step = None if math.isnan(key) else self.schedule.node(key, dtype, None)
        return None if math.isnan(key) else self.schedule.node(key, dtype, self.step)

    def expects_more(self):
        """Whether the step that was announced is known to have visits to come."""
        return self._is_known() and len(self.visited) < self._visits_of(self.step)

    def is_through(self):
        """Whether the step that was announced is known to have had all of its visits."""
        return self._is_known() and len(self.visited) >= self._visits_of(self.step)

    def is_over(self, made):
        """Whether a loop that announces no steps has ``made`` all of its visits, as far as it is known how many."""
        return self.step is None and bool(self.visits) and made >= self._in_all

    @cached_property
    def _in_all(self):
        """How many visits the steps of the schedule make."""
        return sum(map(self._visits_of, range(len(self.schedule.keys) - 1)))

    def _stays(self):
        """Whether the step that was announced goes from one sigma to the same, and has visits to come, which are no tiles."""
        keys = self.schedule.keys
        return self.expects_more() and math.isclose(keys[self.step], keys[self.step + 1], rel_tol=NEAR)

    def _is_known(self):
        return self.step is not None and bool(self.visits)

    def _visits_of(self, step):
        last = step + 1 >= len(self.schedule.keys) or self.schedule.keys[step + 1] == 0
        return 1 if last else self.visits

    def again(self, sigma):
        """Whether another x was asked about at ``sigma`` in this step, or, without steps, at the first sigma of all.

        Heun's method asks twice at every other one, in two steps.
        """
        if not self.visited or (self.step is None and len(self.visited) > 1) or self._stays():
            return False
        return any(math.isclose(sigma, other, rel_tol=NEAR) for other in self.visited)
