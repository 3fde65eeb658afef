"""One visit on its way through a host: asked of its run, past the gate or to the denoiser, and answered.

A host asks in ``prepare_inputs`` and takes the answer from ``__call__``, with its denoiser between the two; what connects them is
the context. Whose run it is, ``loops`` knows.
"""

import functools
import sys
import weakref
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from .loops import asked_last, held_runs, newest_run, open_runs, resume
from .memory import own
from .run import Asked
from .trust import say

_said = weakref.WeakKeyDictionary()  # guider -> why visits were computed that no run is open for
_gating = ContextVar("taylorseer_gating", default=())  # guiders whose denoiser is gated


def _owner(guider):
    """(the run that a visit of ``guider`` belongs to here, None where that cannot be told; the reason)."""
    newest = newest_run()
    if newest is not None and newest.guider is guider and newest.called:
        return newest, None  # nobody else steps within a sampler's own __call__
    found = held_runs(guider)
    if not found:
        return None, "no run"
    newest = found[-1]
    if newest.called or newest.place.expects_more():
        return newest, None
    if newest.place.is_through() and any(run.place.expects_more() for run in found):
        return None, "several runs"  # it has stepped in the middle of another's step
    if all(run.claimed for run in found) or len(found) == 1:
        return newest, None
    return None, "several runs"


def ask(guider, x, sigma):
    """A visit of ``guider`` at ``x`` (B, ...) and ``sigma`` (B,): an Asked, whose run is None where it is nobody's."""
    run, why = _owner(guider)
    before = asked_last.get()
    outer = _around(before, run)
    if run is not None and any(waiting.run is run for waiting in _chain(outer)):
        run, why = None, "no run"  # asked from within the denoiser of a visit of this very run
    if run is None:
        _say(guider, why)
        asked = Asked(None, guider, x)
    else:
        if run.waiting is not None and all(waiting is not run.waiting for waiting in _chain(before)):
            run.trust.doubt("several runs")  # somebody else asked of it and has no answer yet: it is shared
        asked = run.ask(x, run.place.key(sigma), sigma.dtype, gated=guider in _gating.get())
    asked.outer = outer
    asked_last.set(asked)
    return asked


def _around(asked, run):
    """The visit from whose denoiser the next one of ``run`` is asked; ``asked`` is the innermost that waits for its answer."""
    while asked is not None and not asked.inside and (asked.run is None or asked.run is run or asked.run.ended):
        if run is not None and asked.run is run:  # asked before and never answered: its denoiser raised
            run.give_up(asked)
        asked = asked.outer
    return asked


def _say(guider, why):
    """Say once why a visit is nobody's: once a run where there are some, else once a guider."""
    found = open_runs(guider)
    say(why, found[-1].trust.said if found else _said.setdefault(guider, set()))


def _chain(asked):
    while asked is not None:
        yield asked
        asked = asked.outer


def answer(guider, denoised, combine, varying):
    """The guided output of the visit of ``guider`` that waits for one, from its run; ``combine(denoised)`` where none does."""
    asked = asked_last.get()
    if asked is None or asked.guider is not guider or asked.inside:
        return own(combine(denoised), denoised)
    asked_last.set(asked.outer)
    if asked.run is None:
        return own(combine(denoised), denoised)
    try:
        return asked.run.answer(asked, denoised, combine, varying)
    finally:
        resume(asked.run)


@contextmanager
def gated(guider, denoiser):
    """``denoiser``, called only where ``guider`` wants its output. Gating twice is gating once."""
    token = _gating.set((*_gating.get(), guider))
    try:
        yield denoiser if isinstance(denoiser, Gate) and denoiser.gate_of is guider else Gate(guider, denoiser)
    finally:
        _gating.reset(token)


class Gate:
    """Stands in the place of ``denoiser``, whose attributes are its own: samplers may read more than its output, and tell it."""

    def __init__(self, guider, denoiser):
        self.__dict__.update(gate_of=guider, gated=denoiser)

    def __getattr__(self, name):
        return getattr(self.__dict__.get("gated"), name)

    def __setattr__(self, name, value):
        setattr(self.gated, name, value)

    def __delattr__(self, name):
        delattr(self.gated, name)

    def __call__(self, *args, **kwargs):
        asked = asked_last.get()
        if asked is None or asked.guider is not self.gate_of:
            return self.gated(*args, **kwargs)
        asked.gated = True
        if asked.forecast:
            return next(iter((*args, *kwargs.values())))
        asked.inside = True
        try:
            output = self.gated(*args, **kwargs)
        finally:
            asked.inside = False
        if asked.run is not None and not torch.is_tensor(output):
            asked.run.returned_several(asked)
        return output


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
