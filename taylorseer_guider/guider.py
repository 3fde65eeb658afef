"""TaylorSeerGuider: the guest in a host's guider slot."""

import inspect
import logging
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import partial
from time import perf_counter

from . import shim
from .calibration.file import Calibration
from .calibration.runtime import CalibratedRun
from .hosts import adds_noise, building_host, host_named
from .report import FORECAST
from .settings import Settings, finite_number
from .standalone.config import get_obj_from_str
from .trajectory import Trajectory

logger = logging.getLogger(__name__)
SCALE_REMEDY = "5.0 is usual, 0 and 1 need no unconditional branch"
_FALLBACKS = {  # reasons for a call that hold for a whole run, so that nothing is saved
    "not gated": "the denoiser is not gated here (see taylorseer_guider.shim.attach)",
    "no common sigma": "the samples of the batch are at different sigmas",
    "tiled": "the sampler visits several tiles at one sigma, and history is that of one image",
}
_OPTIONS = tuple(field.name for field in fields(Settings))


def _signature():
    """The constructor's signature with every option spelled out, for editors, ``help`` and ``inspect``."""
    options = [
        inspect.Parameter("scale", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=5.0),
        *(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default) for field in fields(Settings)),
        inspect.Parameter("guider_config", inspect.Parameter.KEYWORD_ONLY, default=None),
        inspect.Parameter("inner", inspect.Parameter.VAR_KEYWORD),
    ]
    return inspect.Signature(options)


class TaylorSeerGuider(shim.Skipping):
    """Calls the denoiser at some nodes of a schedule and forecasts the guided output at the others.

    It wraps another guider, the *inner* one, which prepares the inputs and combines the branches wherever the denoiser is
    called. ``scale`` alone means the host's own ``VanillaCFG(scale=scale, **inner)``; ``scale: 0`` is the conditional branch
    without guidance, ``scale: 1`` gives VanillaCFG(1)'s result from that branch alone; ``guider_config`` (``{target,
    params}``) wraps any other guider, and ``**inner`` is added to its params. Attributes that this class does not have are
    the inner guider's, and ``isinstance`` holds for its class too, because hosts ask.

    Options, with the formulas in ``forecast`` and ``schedule``:

    use_cache        false: the host's own guider, bit for bit
    interval         call at every N-th node
    max_order        order of the forecast; less where history is shorter
    warmup, tail     first and last nodes that are always called
    activate         step indices to call at; wins over interval, warmup and tail
    step_threshold   also call where sigma is further than this from the newest call
    tolerance        forecast where the error to expect, as a share of the output, is at most this; wins over interval
    max_skip         with tolerance: most nodes in a row to forecast
    repeat_visits    where a node is visited twice (Heun): call at the first visit and ``reuse`` its output at the second,
                     forecast the first and call ``later``, at the corrected x, or ``compute`` both
    coordinate       sigma, rho, log_sigma or asinh: in what the outputs are interpolated; ``auto`` is asinh for v, else rho
    basis            newton (divided differences) or taylor (the paper's truncated series)
    quantity         what is forecast: the ``denoised`` output, or what networks predict it by, ``eps`` = (x - denoised) /
                     sigma, ``v`` of v-prediction, ``edm`` of EDM's preconditioning; ``auto`` is, on samplers known
                     to add no noise, v with ``calls`` or ``tolerance`` and edm with other plans; elsewhere denoised
    calibration      file of plans and weights solved for this model (``calibrate``); wins over all of the above but use_cache
    calls            how many nodes to call: with a calibration one of its budgets, without one spread where outputs turn;
                     wins over interval, warmup and tail
    history_dtype, history_device    where and how history is kept; as the outputs are, if left out

    After a run, ``report`` says what was done. Raises ValueError at construction for a value out of range or an unknown name.
    """

    __signature__ = _signature()

    def __init__(self, scale=5.0, *, guider_config=None, **options):
        finite_number("scale", scale, SCALE_REMEDY)
        self.settings = Settings(**{name: options.pop(name) for name in _OPTIONS if name in options})
        self._build_inner = partial(_build_inner, host=building_host(), guider_config=guider_config, inner=options)
        self._wraps_another = guider_config is not None
        self._scale = scale
        self.inner = self._build_inner(scale)
        self._calibration = self.calibration and Calibration.load(self.calibration)
        if self._calibration:
            self._calibration.budget(self.calls)
        self.report = None
        self._run = None
        self._pending = None  # (visit, x, started), from prepare_inputs to the call that answers it
        self._gates = 0
        self._warned = False
        shim.install()

    # What a host asks of its guider.

    def prepare_inputs(self, x, sigma, cond, uc, *args, **kwargs):
        """The denoiser's arguments: the inner guider's where it will be called; else as they came, with nothing doubled."""
        if self._run is None:
            self._warn_once("no run has begun through the shim (see taylorseer_guider.shim.attach)")
            return self.inner.prepare_inputs(x, sigma, cond, uc, *args, **kwargs)
        started = perf_counter()
        visit = self._run.visit(x, sigma, gated=self._gates > 0)
        self._pending = visit, x, started
        if why := _FALLBACKS.get(visit.reason):
            self._warn_once(why)
        if visit.action == FORECAST:
            return (x, sigma, cond, *args, *kwargs.values())
        return self.inner.prepare_inputs(x, sigma, cond, uc, *args, **kwargs)

    def __call__(self, denoised, sigma, *args, **kwargs):
        """The guided output: the branches combined by the inner guider, or the forecast (``denoised`` is then ignored).

        A host that passes more than these two (a step, a scale) combines differently from visit to visit. There the branches
        are what is remembered and forecast, and the inner guider combines them at every visit.
        """
        if self._pending is None:
            return self.inner(denoised, sigma, *args, **kwargs)
        (visit, x, started), self._pending = self._pending, None
        guided = self._run.answer(
            visit, x, denoised, lambda output: self.inner(output, sigma, *args, **kwargs), varying=bool(args or kwargs)
        )
        visit.seconds = perf_counter() - started
        return guided

    # What the shim tells it.

    def begin(self, sigmas, sampler=None):
        """Start a run with a new plan, empty history and an empty report.

        ValueError where `activate` or `calibration` does not fit it.
        """
        self.end()
        self._run = self._new_run(sigmas, sampler)
        self.report = self._run.report

    def _new_run(self, sigmas, sampler):
        if self._calibration is None or not self.use_cache:
            return Trajectory(self.settings, sigmas, adds_noise(sampler))
        return CalibratedRun.fitting(self._calibration, self, sigmas, sampler)

    @contextmanager
    def following(self, new_run):
        """Within, the runs that begin are those that ``new_run(sigmas, sampler)`` makes: ``Trajectory``'s visit and answer."""
        self._new_run = new_run
        try:
            yield self
        finally:
            self.end()
            del self._new_run

    def at_step(self, step):
        if self._run is not None:
            self._run.step = step

    def end(self):
        """Close the report and free the history."""
        if self._run is not None:
            self.report.finished = True
        self._run = self._pending = None

    @contextmanager
    def gated(self, denoiser):
        if getattr(denoiser, "gate_of", None) is self:
            yield denoiser
            return

        def gate(x, *args, **kwargs):
            forecast = self._pending is not None and self._pending[0].action == FORECAST
            return x if forecast else denoiser(x, *args, **kwargs)

        gate.gate_of = self
        self._gates += 1
        try:
            yield gate
        finally:
            self._gates -= 1

    # What makes it look like the guider it wraps.

    @property
    def __class__(self):
        inner = self.__dict__.get("inner")
        return TaylorSeerGuider if inner is None else type(inner)

    @property
    def scale(self):
        """The inner guider's scale; setting it takes effect from the next visit on."""
        return getattr(self.inner, "scale", self._scale)

    @scale.setter
    def scale(self, scale):
        if self._wraps_another:
            self.inner.scale = scale
        else:
            finite_number("scale", scale, SCALE_REMEDY)
            self.inner = self._build_inner(scale)
        self._scale = scale

    def __getattr__(self, name):
        if name in _OPTIONS:
            return getattr(self.settings, name)
        if name.startswith("__") or "inner" not in self.__dict__:
            raise AttributeError(f"TaylorSeerGuider has no attribute {name!r}")
        return getattr(self.inner, name)

    def __setattr__(self, name, value):
        if name in _OPTIONS:
            raise AttributeError(f"{name} is fixed at construction; build another guider with {name}={value!r}")
        inner = self.__dict__.get("inner")
        owned = name in self.__dict__ or hasattr(type(self), name)
        target = inner if inner is not None and not owned and hasattr(inner, name) else super()
        target.__setattr__(name, value)

    def __reduce__(self):
        return _restore, ({**self.__dict__, "report": None, "_run": None, "_pending": None, "_gates": 0},)

    def __repr__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in asdict(self.settings).items())
        return f"TaylorSeerGuider({type(self.inner).__name__}, {options})"

    def _warn_once(self, why):
        if not self._warned:
            self._warned = True
            logger.warning("every visit computes: %s", why)


def _restore(state):
    """A copy of a guider: its settings and the guider it wraps, without the state of a run."""
    guider = object.__new__(TaylorSeerGuider)
    guider.__dict__.update(state)
    shim.install()
    return guider


def _doubling_is_the_guiders(host):
    """Forks whose samplers call the guider with more than ``x, sigma`` double some of the denoiser's arguments themselves."""
    return len(inspect.signature(host.guider_class("VanillaCFG").__call__).parameters) == 3


def _build_inner(scale, host, guider_config, inner):
    """The guider that is wrapped. Raises ValueError for parameters it does not take."""
    if guider_config is not None:
        if "target" not in guider_config:
            raise ValueError(f"guider_config={guider_config!r}: give a mapping with `target` and, if needed, `params`")
        cls = get_obj_from_str(guider_config["target"])
        inner = {**(guider_config.get("params") or {}), **inner}
        takes_scale = "scale" in inspect.signature(cls).parameters
        inner = {"scale": scale, **inner} if takes_scale else inner
    else:
        host = host or host_named("standalone")
        single_branch = scale == 0 or (scale == 1 and not inner and _doubling_is_the_guiders(host))
        cls = host.guider_class("IdentityGuider" if single_branch else "VanillaCFG")
        inner = inner if single_branch else {"scale": scale, **inner}
    known = inspect.signature(cls).parameters
    unknown = [name for name in inner if name not in known]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        names = ", ".join(sorted({"scale", "guider_config", *_OPTIONS, *known}))
        raise ValueError(f"unknown option {', '.join(unknown)}: {cls.__name__} and TaylorSeerGuider take {names}")
    return cls(**inner)
