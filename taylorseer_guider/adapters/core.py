"""What all adapters share: runs without a guider, a sampler of sgm's or the shim, led by whoever sees the visits.

An adapter tells a ``Forecaster`` where the sampler is (``x, sigma``) and gets an output: the model's where a call is planned,
else a forecast. Everything else, from the plan to the report, is the plugin's own: ``Settings``, a ``Policy`` and a ``Run``.
"""

import logging
import math
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace

import torch

from ..hosts import Stepping
from ..landing import unfitted
from ..memory import own
from ..policy import Everything
from ..report import Report
from ..run import Asked, Run
from ..schedule import NEAR
from ..settings import regrouped
from .given import checked, known_scale, schedule_of

logger = logging.getLogger(__name__)
UNKNOWN = Stepping(stirs=True)  # what a sampler is taken for that nobody has named


class Forecaster:
    """Answers the visits of one sampling loop at a time, from the model or from what it said before.

    ``sigmas`` (n,), a tensor, an array or a list, fall, as the sampler walks them; ``stepping`` is what is known of how it steps,
    and ``scale`` the guidance scale, if known. ``movable`` says that the model may be called at other sigmas than the sampler's.
    ``options`` are ``TaylorSeerGuider``'s, but for ``calibration`` and ``learn``. On samplers that are known to add no noise the
    defaults are its, too. On all others half of the nodes are called, those where outputs turn, and second visits of a called
    node are computed: noise may have been added in between.

    A loop ends with its last visit where the stepping is known, else with ``end()``, or when another one begins: with ``begin``,
    at a sigma above the one before (where steps are told, a step below it), or in another thread. What cannot be forecast is
    computed: samples at different sigmas, x of another shape, gradients, a visit from within the model.

    Raises ValueError for sigmas that do not fall, and for options that are unknown, out of range or not for these sigmas.
    """

    def __init__(
        self, sigmas: torch.Tensor | None = None, stepping: Stepping = UNKNOWN, scale: float = math.inf, movable: bool = False,
        **options,
    ) -> None:  # fmt: skip
        self.settings, self.stepping, self.scale, self.movable = checked(options), stepping, known_scale(scale), movable
        self._given, self.shares_plan = frozenset(regrouped(options)), False
        self._loop, self._report = (None, None), None  # (the Run under way, the thread whose it is), told and read at once
        self._left = False  # a loop may have been left, and another begun below its last visit
        if sigmas is not None:
            self.begin(sigmas)

    def __getstate__(self):
        """A copy has the options and the sigmas, and no loop under way."""
        run, _ = self._loop
        return {**vars(self), "_loop": (None, None), "_report": None, "keys": run and run.schedule.keys}

    def __setstate__(self, state):
        keys = state.pop("keys")
        vars(self).update(state)
        if keys:
            self.begin(torch.tensor(keys, dtype=torch.float64, device="cpu"))

    def begin(self, sigmas: torch.Tensor) -> None:
        """Another loop begins, over ``sigmas``."""
        self._begin(schedule_of(sigmas, self.stepping))

    def _begin(self, schedule, stepping=None):
        """A loop begins whose ``stepping`` is another one than the sampler's, if one is given."""
        run, here = self._under_way()
        if here:
            _end(run, quietly=True)
        stepping = stepping or self.stepping
        run = Run(self._policy(schedule, stepping), schedule, stepping, self)
        self._loop = run, threading.get_ident()
        return run

    def _policy(self, schedule, stepping):
        settings = self._settings(stepping)
        if settings.computes_all:
            return Everything("planned" if settings.use_cache else "cache off")
        return unfitted(settings, schedule, stepping, self.scale, self.movable)

    def _settings(self, stepping):
        """The settings; where noise may be added, and the user has not said what else to do, second visits are computed."""
        said = "repeat_visits" in self._given
        return replace(self.settings, repeat_visits="compute") if stepping.noisy and not said else self.settings

    def visit(
        self, x: torch.Tensor, sigma: torch.Tensor, call: Callable[..., torch.Tensor], step: int | None = None
    ) -> torch.Tensor:
        """The guided output at ``x`` (B, ...) and ``sigma`` (B,): the model's where a call is planned, else a forecast.

        The model's is ``call(x, sigma)``, of other ones where calls are ``movable``. ``step`` is the one that the sampler takes,
        where it says so.
        """
        asked, given = self.ask(x, sigma, step), x
        if asked.forecast:
            return self.answer(asked)
        try:
            if asked.run is not None:
                x, sigma = asked.run.inputs(asked, sigma)
            output = call(x, sigma)
            if not torch.is_tensor(output):
                raise TypeError(f"the model returned a {type(output).__name__}: it is to return the guided output, a tensor")
        except BaseException:
            self.give_up(asked)
            if asked.run is not None:
                asked.run.raised = weakref.ref(given)
            raise
        return self.answer(asked, output)

    def ask(self, x: torch.Tensor, sigma: torch.Tensor, step: int | None = None) -> Asked:
        """The first half of a visit, for a host that runs its model between the two: it is not to, if ``forecast`` is true."""
        run, here = self._under_way()
        if here:
            raised, run.raised = run.raised, None
            if raised is not None and raised() is not x:
                _end(run, quietly=True)  # the loop goes on where its model is asked again; it was left
        if run.waiting is not None and here:
            if step == run.place.step:
                return Asked(None, self, x)  # asked from within the model
            self.give_up(run.waiting)  # whose model raised
        if run.ended or not here or (step is not None and run.place.step is not None and step < run.place.step):
            run, self._left = self._begin(run.schedule), False
        if step is not None and step != run.place.step:
            run.place.announce(step)
        key = run.place.key(sigma)
        if step is None and self._rises(run, key):
            run, self._left = self._begin(run.schedule), False
        if step is None and self._strays(run, key, sigma.dtype):
            run = self._astray(run, key, sigma.dtype)
        asked = run.ask(x, key, sigma.dtype, gated=True)
        asked.gated = True
        return asked

    def _astray(self, run, key, dtype):
        """The run that goes on at a visit at ``key``, which is none of ``run``.

        One that skips nodes may be the first visit of another loop, where the one before was left; that is believed once. Two at
        the first sigma may be tiles, of this loop alone.
        """
        node, sigma = run.schedule.node(key, dtype, None), run.schedule.sigma(key)
        again = run.place.again(sigma)
        if node > self._expected(run, node) and not self._left:
            self._left = True
            return self._begin(run.schedule)
        logger.warning("the sampler does not ask where %s does: it is one that is not known", run.stepping.name or "it is to")
        if not again:
            self.stepping = UNKNOWN
        begun = self._begin(run.schedule, UNKNOWN)
        if again:
            begun.place.visited.append(sigma)
        return begun

    def _under_way(self):
        """(the Run under way, or None, whether it is this thread's)."""
        run, thread = self._loop
        return run, thread == threading.get_ident()

    def _rises(self, run, key):
        """Whether a visit is above the one before, or, where all are at the one node that there is, not below it.

        Where noise is added before a step, its first visit may be above the second one of the step before, but not above both.
        """
        older, before = [None, None, *(visit.sigma for visit in run.report.visits[-2:])][-2:]
        least = 1 - NEAR if len(run.schedule.nodes) == 1 else 1 + NEAR
        if before is None or not run.schedule.sigma(key) > before * least:
            return False
        return older is None or run.schedule.sigma(key) >= older * (1 - NEAR)  # else churn, after a second visit

    def _strays(self, run, key, dtype):
        """Whether a visit is not at the node where the stepping has it: another sampler than was named, churn, or tiles."""
        node = None if math.isnan(key) else run.schedule.node(key, dtype, None)
        expected = self._expected(run, node)
        if node is None or expected is None:
            return False
        return node != expected or not run.schedule.is_at(node, run.schedule.sigma(key))

    def _expected(self, run, node):
        """Where the next visit of ``run`` is, which is at ``node`` if it is the first; None where nobody can know it."""
        visits, made = run.stepping.visits, run.report.visits
        begun = made[0].node if made else node
        return None if not visits or begun is None else begun + (len(made) + visits - 1) // visits

    def answer(self, asked: Asked, output: torch.Tensor | None = None) -> torch.Tensor:
        """The second half: the answer to what was ``asked``, of which the model's ``output`` is None where it is a forecast."""
        output = asked.x if output is None else output
        if asked.run is None:
            return own(output, output)
        return asked.run.answer(asked, output, _as_it_is)

    def give_up(self, asked: Asked) -> None:
        """There will be no answer to what was ``asked``: the model raised."""
        if asked.run is not None:
            asked.run.give_up(asked)

    def end(self, quietly: bool = False) -> None:
        """The loop is over: its history is freed, and ``report`` closed.

        Not where it is another thread's, in the middle of a visit. FloatingPointError, unless ``quietly``, for an output that was
        not finite and is only found out now, as on a GPU.
        """
        run, thread = self._loop
        if run is None or thread == threading.get_ident() or run.waiting is None or not is_alive(thread):
            _end(run, quietly)

    @property
    def report(self) -> Report | None:
        """What was done in the loop under way, or in the last one; None before the first visit."""
        run, _ = self._loop
        return self._report if run is None or not run.report.visits else run.report

    def finished(self, report: Report) -> None:
        """A run has ended; ``report`` is what it did."""
        self._report = report


def _end(run, quietly):
    """``run``, if there is one and it has been visited, is over."""
    if run is not None and run.report.visits:
        run.end(quietly)


def is_alive(thread):
    """Whether there is still a thread of that identity."""
    return any(each.ident == thread for each in threading.enumerate())


def _as_it_is(output, asked=None):
    return output
