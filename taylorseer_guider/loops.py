"""Whose run is it? A run belongs to the loop that began it, and is found through the context of whoever asks.

Threads and asyncio tasks have contexts of their own. Within one context, a sampler's own ``__call__`` closes off what it begins;
a loop that somebody drives by hand makes its run the current one at every step that it announces; and where no step is announced
and more than one run is open, nobody can tell whose visit it is, so it computes.
"""

import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

from .hosts import stepping
from .run import Run
from .schedule import Schedule

_runs = ContextVar("taylorseer_runs", default=())  # open runs of this context, the current one last
asked_last = ContextVar("taylorseer_asked", default=None)  # the innermost visit that waits for its answer
_calling = ContextVar("taylorseer_calling", default=())  # a ``Calling`` for each sampler whose __call__ is on the stack
_policies = ContextVar("taylorseer_policies", default=None)  # makes the policies of the runs that begin


class Calling(NamedTuple):
    """A ``sampler`` whose own ``__call__`` is on the stack, the ``Asked`` that it is ``within``, if any, and its ``runs``."""

    sampler: object
    within: object
    runs: list


def open_runs(guider):
    """The runs of ``guider`` that are open in this context, the current one last."""
    return [run for run in _runs.get() if run.guider is guider and not run.ended]


def current(guider):
    """The run of ``guider`` that this context is in, or None."""
    found = open_runs(guider)
    return found[-1] if found else None


def newest_run():
    """The run that this context is in, whosever guider's; None where it is in none."""
    runs = _runs.get()
    return runs[-1] if runs and not runs[-1].ended else None


def held_runs(guider):
    """The open runs that a loop still holds."""
    return [run for run in open_runs(guider) if run.claimed or not run.orphan]


def begin(guider, sigmas, sampler=None, x=None):
    """A run of ``guider`` begins, with the ``sigmas`` (1-d tensor) of ``sampler``, and is the current one. Returns it.

    ``x`` (B, ...), where it is known, is what is sampled.
    ValueError where the guider's settings do not fit it.
    """
    known = stepping(sampler)
    schedule = Schedule(sigmas, known.rising, known.visits)
    policy_of = _policies.get()
    policy = (policy_of or partial(guider.policy, x=x))(schedule, sampler, sigmas.dtype)
    run = Run(policy, schedule, known, guider, sampler)
    run.aside = policy_of is not None
    run.called = is_calling(sampler)
    if run.called:
        _calling.get()[-1].runs.append(run)
    _make_current(run)
    return run


def forget(sampler, before):
    """Drop the runs of ``sampler`` that began since ``before``, open runs of its guider."""
    for run in open_runs(sampler.guider):
        if run.sampler is sampler and all(run is not other for other in before):
            run.ended, run.recording = True, None


def is_calling(sampler):
    """Whether the innermost code that samples here is ``sampler``'s own ``__call__``."""
    calls = _calling.get()
    return bool(calls) and calls[-1].sampler is sampler and calls[-1].within is asked_last.get()


def _make_current(run):
    others = (other for other in _runs.get() if other is not run and not other.ended)
    _runs.set((*(other for other in others if other.claimed or not other.orphan), run))


def resume(run):
    """Go on with ``run`` after a visit of it, in whose denoiser other loops may have stepped."""
    runs = _runs.get()
    if run.ended:
        tidy()
    elif runs and runs[-1] is not run and run in runs:
        _make_current(run)


def tidy():
    """Let go of the runs that have ended."""
    _runs.set(tuple(run for run in _runs.get() if not run.ended))


def owned(run, tensors):
    """Copies of the Python objects ``tensors`` that the loop of ``run`` holds; once it has let go of them all, the run ends.

    A loop that is driven by hand may be left at any time, and need not even say which step it takes.
    """
    handed = [tensor.view_as(tensor) for tensor in tensors]
    left = len(handed)

    def gone():
        nonlocal left
        left -= 1
        run.orphan = not left
        if run.orphan and not run.claimed and run.report.visits:
            run.end(quietly=True)

    for tensor in handed:
        weakref.finalize(tensor, gone).atexit = False
    return handed


@contextmanager
def following(policy_of):
    """Within, the runs that begin have the policy that ``policy_of(schedule, sampler, dtype)`` makes, not their guider's own."""
    token = _policies.set(policy_of)
    try:
        yield
    finally:
        _policies.reset(token)


@contextmanager
def calling(sampler):
    """A sampler's own ``__call__``: the runs that begin within it end with it. Yields the list of its own."""
    before, calls, asked, own = _runs.get(), _calling.get(), asked_last.get(), []
    failed = True
    try:
        _calling.set((*calls, Calling(sampler, asked, own)))
        yield own
        failed = False
    finally:
        _calling.set(calls)  # first: where it stays, this sampler is taken to be called for good
        asked_last.set(asked)
        begun = [run for run in _runs.get() if all(run is not other for other in before)]
        _runs.set(before)
        for run in begun:
            run.end(quietly=failed)
        tidy()


class Steps:
    """A host's step generator that announces its steps to ``run``. Keeps ``len``: a progress bar knows its total."""

    def __init__(self, steps, run):
        self._steps, self._run = steps, run
        run.claimed = True
        weakref.finalize(self, run.end, quietly=True).atexit = False

    def __len__(self):
        return len(self._steps)

    def __getattr__(self, name):
        return getattr(self.__dict__.get("_steps"), name)  # a progress bar's own

    def __iter__(self):
        failed = True
        try:
            for step in self._steps:
                announce(self._run, step)
                yield step
            failed = False
        finally:
            self._run.end(quietly=failed)
            tidy()


def claimed(steps, guider, sampler, count):
    """``steps`` as those of the newest run of ``sampler`` that has none yet, if there is one; ``count`` sigmas where possible."""
    free = [run for run in open_runs(guider) if run.sampler is sampler and not run.claimed]
    fitting = [run for run in free if len(run.schedule.keys) == count]
    for run in free[-1:] if not fitting else []:  # whoever drives it has cut the schedule: its steps are not the run's
        run.place.leave_steps()
        fitting.append(run)
    return Steps(steps, fitting[-1]) if fitting else steps


def announce(run, step):
    """The loop of ``run`` takes ``step`` next, and its run is the current one.

    Where another loop of the same guider has announced a step and not taken it, both walk in lockstep, and visits are nobody's.
    """
    for other in open_runs(run.guider):
        if other is not run and other.waiting is None and other.place.step is not None and not other.place.visited:
            other.trust.doubt("several runs")
            run.trust.doubt("several runs")
    run.place.announce(step)
    _make_current(run)
