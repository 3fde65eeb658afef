"""Forecasts for pipelines that ask one or more networks, once or more often a step: each answer follows from its own kind.

A *stream* is the visits of one run that follow each other smoothly: those of one network under one condition. Pipelines that
stack the branches of guidance have one; those that run the network for each branch have two or three.
"""

import logging
import threading
import weakref
from dataclasses import replace

import torch

from ..report import Report
from ..settings import AUTO
from ..values import largest
from .core import Forecaster, is_alive
from .given import checked
from .schedulers import Walk, relation

logger = logging.getLogger(__name__)
SHARED = "another thread runs the network in the middle of a run; give each pipeline a network of its own"


class Streams:
    """The streams of the run that ``pipe`` is in, found anew for each visit; a run begins where its scheduler's timesteps do.

    ``options`` are those of ``Forecaster``. ValueError for one that is unknown or out of range.
    """

    def __init__(self, pipe, options):
        checked(options)
        self._pipe, self._options = weakref.ref(pipe), options
        self._walk, self._found, self._said = None, [], set()
        self._thread, self._shared = None, False  # whose the run is; whether others ask in it, so that it computes

    @property
    def scheduler(self):
        """That of the pipeline, which may be exchanged at any time; None once the pipeline is gone."""
        return getattr(self._pipe(), "scheduler", None)

    @property
    def report(self) -> Report | None:
        """What was done in the run under way, or in the last one: the visits of all its streams, one stream after the other."""
        reports = [stream.forecaster.report for stream in self._found if stream.forecaster is not None]
        if len(reports) < 2:
            return reports[0] if reports else None
        visits = [visit for report in reports for visit in report.visits]
        peak = sum(report.peak_bytes for report in reports)
        return Report(visits, peak, all(report.finished for report in reports))

    def at(self, asker, timestep, cond=None, guided=None):
        """The stream of the visit that ``asker`` makes at ``timestep`` under the condition ``cond``, a tensor or None.

        ``guided`` is what has the guidance scale, if not the pipeline. None where it is not known at which sigma the visit is.
        """
        if (scheduler := self.scheduler) is None:
            self.say("the pipeline that was enabled is gone, or has no scheduler; enable the one that is used")
            return None
        here = self._thread == threading.get_ident()
        left = not here and not is_alive(self._thread)
        if self._walk is None or self._walk.timesteps is not scheduler.timesteps or left:
            self._begin(timestep)
        elif not here and not self._walk.is_over:
            self._shared = True
            self.say(SHARED)
            return None
        if self._walk.known is None:
            return None
        position = self._walk.position(scheduler, timestep)
        if position is not None and position < self._walk.last:
            self._begin(timestep)
        if position is None:
            return None
        self._walk.last = position
        if self._shared:
            self.end()
            return None
        return self._stream(asker, cond, position, guided or self._pipe())

    def say(self, why):
        """Have the log say once why every visit computes."""
        if why not in self._said:
            self._said.add(why)
            logger.warning("every visit computes: %s", why)

    def _begin(self, timestep):
        self.end()
        self._thread, self._shared = threading.get_ident(), False
        self._walk, self._found = Walk(self.scheduler, timestep, self._pipe()), []
        if self._walk.known is None:
            name, kind = type(self.scheduler).__name__, self._walk.kind
            logger.warning("every visit computes: at which sigmas %s with prediction_type %r steps is not known", name, kind)

    def end(self):
        """The run is over, or given up: free what it holds."""
        for stream in self._found:
            stream.end(quietly=True)

    def _stream(self, asker, cond, position, guided):
        """The one that was under ``cond`` a position before, else, where conditions are made anew, the first; or a new one.

        One that has missed a position does not go on: guidance that was off meanwhile has led x elsewhere.
        """
        for stream in self._found:
            if stream.position < position - 1:
                stream.end(quietly=True)
        free = [stream for stream in self._found if stream.asker == asker and stream.position == position - 1]
        same = [stream for stream in free if stream.under(cond)]
        chosen = (same or [stream for stream in free if stream.under(None)] or [None])[0]
        if chosen is None:
            chosen = Stream(asker, self._walk, self._options, guidance_scale(guided))
            self._found.append(chosen)
        chosen.position, chosen.cond = position, cond if cond is None else weakref.ref(cond)
        return chosen


class Stream:
    """The visits of one ``asker`` under one condition: ``ask`` whether the network is to run, then ``answer``."""

    def __init__(self, asker, walk, options, scale):
        self.asker, self._walk, self._options, self._scale = asker, walk, options, scale
        self.position, self.cond = -1, None
        self.forecaster = self._asked = self._related = None

    def under(self, cond):
        """Whether its condition is the tensor ``cond``; None: whether it has none (any more)."""
        return (self.cond and self.cond()) is cond

    def ask(self, x):
        """Whether the visit at the network's ``x``, None where that is not known, is forecast."""
        self._related = relation(self._walk.kind, self._walk.each[self.position])
        if self.forecaster is None:  # what is forecast follows from the first output
            return False
        if self._asked is not None:
            self.forecaster.give_up(self._asked)
        self._ask(x)
        return self._asked.forecast

    def _ask(self, x):
        sigma = torch.tensor([self._walk.each[self.position]], dtype=torch.float64, device="cpu")
        self._asked = self.forecaster.ask(self._noisy(x), sigma, self._walk.step(self.position))

    def answer(self, x, output=None):
        """What the network's output is to be, where it gave ``output``, or None where it was not run."""
        if self.forecaster is None:
            self._like, self._cut = output, noisy_part(x, output)
            self.forecaster = self._made()
            self._ask(x)
        asked, self._asked = self._asked, None
        image = None if output is None else self._image(x, output)
        answer = self.forecaster.answer(asked, image)
        if self.position + 1 == len(self._walk.each):
            self.end()
        if output is not None and (asked.visit is None or asked.visit.order is None):
            return output
        return self._output(x, answer)

    def end(self, quietly=False):
        """Free what it holds. FloatingPointError, unless ``quietly``, for an output that was not finite."""
        if self.forecaster is not None:
            self.forecaster.end(quietly)

    def _made(self):
        """The forecaster of this stream's images, or, where they are not known, of the outputs as they are."""
        known = self._walk.known
        made = Forecaster(None, known, self._scale, **self._options)
        settings, given = made.settings, made.settings.forecast
        if settings.calls is not None:
            settings = replace(settings, calls=min(settings.calls, len(self._walk.sigmas) - 1))
        if self._cut is None:  # of noisy x, outputs as they are would hand on the noise that was there
            coordinate = "rho" if given.coordinate == AUTO else given.coordinate
            as_they_are = replace(given, quantity="denoised", coordinate=coordinate)
            settings = replace(settings, forecast=as_they_are, use_cache=settings.use_cache and not known.stirs)
        made.settings, made.shares_plan = settings, True
        made.begin(torch.tensor(self._walk.sigmas, dtype=torch.float64, device="cpu"))
        return made

    def _noisy(self, x):
        """image + sigma * noise, in at least float32; where outputs are forecast as they are, nobody asks for it."""
        if self._cut is None:
            return self._like if x is None else x
        return self._wide(x) / self._related[0]

    def _image(self, x, output):
        if self._cut is None:
            return output
        _, on_x, on_output = self._related
        return on_x * self._wide(x) + on_output * wide(output)

    def _output(self, x, image):
        if self._cut is None:
            return image
        _, on_x, on_output = self._related
        return ((image - on_x * self._wide(x)) / on_output).to(self._like.dtype)

    def _wide(self, x):
        dim, length = self._cut
        return wide(x.narrow(dim, 0, length))


def wide(tensor):
    """``tensor`` in float32 at least: an image that is made from halves of x and output would lose what it is turned back to."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def noisy_part(x, output):
    """(dimension, length) of the part of the network's ``x`` that its ``output`` belongs to; None where none is known.

    What pipelines concatenate to the noisy x (an image, a mask) comes behind it, as channels.
    """
    if x is None or x.ndim != output.ndim:
        return None
    longer = [dim for dim in range(x.ndim) if x.shape[dim] != output.shape[dim]] or [x.ndim - 1]
    dim, channels = longer[0], (2,) if x.ndim == 3 else (1, 2)  # of tokens, the last
    fits = len(longer) == 1 and x.shape[dim] >= output.shape[dim]
    return (dim, output.shape[dim]) if fits and (x.shape == output.shape or dim in channels) else None


def guidance_scale(guided):
    """The scale of a pipeline or guider, the largest where it is a tensor; infinite where it has none that one could know."""
    scale = largest(getattr(guided, "guidance_scale", None))
    return float(scale) if isinstance(scale, (int, float)) else float("inf")
