"""Whose run is it? A run belongs to the loop that began it, and is found through the context of whoever asks.

Threads and asyncio tasks have contexts of their own. Within one context, a sampler's own ``__call__`` closes off what it begins;
a loop that somebody drives by hand makes its run the current one at every step that it announces; and where no step is announced
and more than one run is open, nobody can tell whose visit it is, so it computes.
"""

import functools
import logging
import sys
import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

import torch

from .hosts import stepping
from .run import Asked, Run, own
from .schedule import Schedule
from .trust import REASONS

logger = logging.getLogger(__name__)
_said = weakref.WeakKeyDictionary()  # guider -> why visits were computed that no run is open for
_runs = ContextVar("taylorseer_runs", default=())  # open runs of this context, the current one last
_asked = ContextVar("taylorseer_asked", default=None)  # the innermost visit that waits for its answer
_gating = ContextVar("taylorseer_gating", default=())  # guiders whose denoiser is gated
_calling = ContextVar("taylorseer_calling", default=())  # (sampler whose __call__ is on the stack, the visit that it is within)
_policies = ContextVar("taylorseer_policies", default=None)  # makes the policies of the runs that begin


def open_runs(guider):
    """The runs of ``guider`` that are open in this context, the current one last."""
    return [run for run in _runs.get() if run.guider is guider and not run.ended]


def current(guider):
    """The run of ``guider`` that this context is in, or None."""
    found = open_runs(guider)
    return found[-1] if found else None


def _held(guider):
    """The open runs that a loop still holds."""
    return [run for run in open_runs(guider) if run.claimed or not run.orphan]


def begin(guider, sigmas, sampler=None):
    """A run of ``guider`` begins, with the ``sigmas`` (1-d tensor) of ``sampler``, and is the current one. Returns it.

    ValueError where the guider's settings do not fit it.
    """
    known = stepping(sampler)
    schedule = Schedule(sigmas, known.rising)
    policy = (_policies.get() or guider.policy)(schedule, sampler, sigmas.dtype)
    run = Run(policy, schedule, known, guider, sampler)
    run.called = is_calling(sampler)
    _make_current(run)
    return run


def forget(sampler, before):
    """Drop the runs of ``sampler`` that began since ``before``, open runs of its guider."""
    for run in open_runs(sampler.guider):
        if run.sampler is sampler and all(run is not other for other in before):
            run.ended = True


def is_calling(sampler):
    """Whether the innermost code that samples here is ``sampler``'s own ``__call__``."""
    calls = _calling.get()
    return bool(calls) and calls[-1][0] is sampler and calls[-1][1] is _asked.get()


def _make_current(run):
    _runs.set((*(other for other in _runs.get() if other is not run and (other.claimed or not other.orphan)), run))
    _tidy()


def _tidy():
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
    """A sampler's own ``__call__``: the runs that begin within it end with it."""
    before, calls, asked = _runs.get(), _calling.get(), _asked.get()
    _calling.set((*calls, (sampler, asked)))
    failed = True
    try:
        yield
        failed = False
    finally:
        begun = [run for run in _runs.get() if all(run is not other for other in before)]
        _runs.set(before)
        _calling.set(calls)
        _asked.set(asked)
        for run in begun:
            run.end(quietly=failed)
        _tidy()


class Steps:
    """A host's step generator that announces its steps to ``run``. Keeps ``len``: a progress bar knows its total."""

    def __init__(self, steps, run):
        self._steps, self._run = steps, run
        run.claimed = True
        weakref.finalize(self, run.end, quietly=True).atexit = False

    def __len__(self):
        return len(self._steps)

    def __iter__(self):
        failed = True
        try:
            for step in self._steps:
                announce(self._run, step)
                yield step
            failed = False
        finally:
            self._run.end(quietly=failed)
            _tidy()


def claimed(steps, guider, sampler, count):
    """``steps`` as those of the newest run of ``sampler`` that has none yet, if there is one; ``count`` sigmas where possible."""
    free = [run for run in open_runs(guider) if run.sampler is sampler and not run.claimed]
    fitting = [run for run in free if len(run.schedule.keys) == count]
    for run in free[-1:] if not fitting else []:  # whoever drives it has cut the schedule: its steps are not the run's
        run.stepping = replace(run.stepping, visits=None)
        fitting.append(run)
    return Steps(steps, fitting[-1]) if fitting else steps


def announce(run, step):
    """The loop of ``run`` takes ``step`` next, and its run is the current one.

    Where another loop of the same guider has announced a step and not taken it, both walk in lockstep, and visits are nobody's.
    """
    for other in open_runs(run.guider):
        if other is not run and other.step is not None and not other.visited and other.waiting is None:
            other.fall_back("several runs")
            run.fall_back("several runs")
    run.announce(step)
    _make_current(run)


def _owner(guider):
    """(the run that a visit of ``guider`` belongs to here, None where that cannot be told; the reason)."""
    found = _held(guider)
    if not found:
        return None, "no run"
    newest = found[-1]
    if newest.called or newest.expects_more() or all(run.claimed for run in found) or len(found) == 1:
        return newest, None
    return None, "several runs"


def ask(guider, x, sigma):
    """A visit of ``guider`` at ``x`` (B, ...) and ``sigma`` (B,): an Asked, whose run is None where it is nobody's."""
    run, why = _owner(guider)
    before = outer = _asked.get()
    while outer is not None and not outer.inside and (outer.run is None or outer.run is run or outer.run.ended):
        outer = outer.outer  # asked before and never answered: its denoiser raised
    if run is not None and outer is not None and any(waiting.run is run for waiting in _chain(outer)):
        run, why = None, "no run"  # asked from within the denoiser of a visit of this very run
    if run is None:
        _say(guider, why)
        asked = Asked(None, guider, x)
    else:
        if run.waiting is not None and all(waiting is not run.waiting for waiting in _chain(before)):
            run.fall_back("several runs")  # somebody else asked of it and has no answer yet: it is shared
        asked = run.waiting = run.ask(x, sigma, gated=guider in _gating.get())
    asked.outer = outer
    _asked.set(asked)
    return asked


def _say(guider, why):
    """Say once why a visit is nobody's: once a run where there are some, else once a guider."""
    found = open_runs(guider)
    said = found[-1].said if found else _said.setdefault(guider, set())
    if why not in said:
        said.add(why)
        logger.warning("every visit computes: %s", REASONS[why])


def _chain(asked):
    while asked is not None:
        yield asked
        asked = asked.outer


def answer(guider, denoised, combine, varying):
    """The guided output of the visit of ``guider`` that waits for one, from its run; ``combine(denoised)`` where none does."""
    asked = _asked.get()
    if asked is None or asked.guider is not guider or asked.inside:
        return own(combine(denoised), denoised)
    _asked.set(asked.outer)
    if asked.run is None:
        return own(combine(denoised), denoised)
    if asked.run.waiting is asked:
        asked.run.waiting = None
    try:
        return asked.run.answer(asked, denoised, combine, varying)
    finally:
        if asked.run.ended:
            _tidy()


@contextmanager
def gated(guider, denoiser):
    """``denoiser``, called only where ``guider`` wants its output. Gating twice is gating once."""
    token = _gating.set((*_gating.get(), guider))
    try:
        yield denoiser if getattr(denoiser, "gate_of", None) is guider else _gate(guider, denoiser)
    finally:
        _gating.reset(token)


def _gate(guider, denoiser):
    def gate(x, *args, **kwargs):
        asked = _asked.get()
        if asked is None or asked.guider is not guider:
            return denoiser(x, *args, **kwargs)
        asked.gated = True
        if asked.forecast:
            return x
        asked.inside = True
        try:
            return denoiser(x, *args, **kwargs)
        finally:
            asked.inside = False

    gate.gate_of = guider
    return gate


def eager(function):
    """``function``, left out of what torch.compile makes of its callers, without importing its machinery before others do."""
    disabled = None

    @functools.wraps(function)
    def outside(*args, **kwargs):
        nonlocal disabled
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if disabled is None:
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    return outside
