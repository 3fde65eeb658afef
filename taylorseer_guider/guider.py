"""TaylorSeerGuider: the guest in a host's guider slot."""

import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import torch

from . import loops, shim, visits
from .calibrated import describe, policy_for, warn_if_it_goes_on
from .calibration_file import Calibration
from .hosts import stepping
from .landing import unfitted
from .learning import Learner
from .memory import own
from .policy import Everything, Policy
from .report import Report
from .run import Run
from .schedule import Schedule, require_falling
from .settings import OPTIONS, Settings, regrouped
from .values import finite_number, plain
from .wrapping import SCALE_REMEDY, USUAL, Made, attributes_of, class_by_name, class_by_scale, made_for


class TaylorSeerGuider(shim.Skipping):
    """Calls the denoiser at some nodes of a schedule and forecasts the guided output at the others.

    It is a guider of the class that it wraps, ``wrapped``, made for it by inheritance: that class prepares the inputs and
    combines the branches wherever the denoiser is called, and its attributes are this one's. ``scale`` alone means the host's
    own ``VanillaCFG(scale=scale, **inner)``; ``scale: 0`` is the conditional branch without guidance, ``scale: 1`` gives
    VanillaCFG(1)'s result from that branch alone where there are forecasts; ``guider_config`` (``{target, params}``) wraps any
    other guider, and ``**inner``, and ``scale`` where it is given, go before its params.

    use_cache        false: the host's own guider, bit for bit
    interval         call at every N-th node; where none of interval, calls, step_threshold and plan is given, half as many calls
                     as nodes are made
    max_order        order of the forecast, less where history is shorter; where ``landing`` forecasts at scales below 2, it is
                     3, or 2 where nodes are named; 0 on samplers known to add noise, else 1
    step_threshold   also call where sigma is further than this from the newest call
    calls            how many calls to make: with a calibration one of its budgets; without one they have even gaps, in a measure
                     that is steep where outputs turn: where ``landing`` forecasts at sigmas of their own, and each is made at
                     the visit of the node nearest to it, else at nodes; wins over interval, plan.warmup and plan.tail
    calibration      file of solvers fitted to this model (``calibrate``), at one scale or for a range; beside it go only
                     use_cache, calls, guider_config, history and the scale
    learn            true or a file, with calls: the first picture of each scale and size, on Euler's, Heun's or DPM++2M's
                     sampler, is the host's full run, and weights are learnt from it, for at most as many calls again. Later
                     pictures use them, on linear multistep and other schedules, too, as far as a calibration serves those. The
                     file is read if it is there, and else written
    repeat_visits    where a node is visited twice (Heun): call at the first visit and ``reuse`` its output at the second,
                     forecast the first and call ``later``, at the corrected x, or ``compute`` both
    plan             nodes       indices of sigmas to call at; wins over interval, warmup and tail
                     warmup      how many of the first nodes are always called (1)
                     tail        how many of the last nodes are always called (0)
                     tolerance   forecast where the error to expect, as a share of the output, is at most this; wins over interval
                     max_skip    with tolerance: most nodes in a row to forecast (3)
    forecast         quantity    what is forecast: the ``denoised`` output, or what networks predict it by, ``eps`` = (x -
                                 denoised) / sigma, ``v`` of v-prediction, ``edm`` of EDM's preconditioning; ``auto`` leaves it
                                 to the solver of ``landing`` on deterministic samplers (Euler's, Heun's, DPM++2M, linear
                                 multistep), else it is eps on samplers known to add no noise, denoised elsewhere
                     coordinate  in what outputs are interpolated: sigma, rho, log_sigma or asinh; ``auto``: asinh for denoised
                                 and v, else rho
                     basis       newton (divided differences) or taylor (the paper's truncated series)
    history          dtype       how outputs are held, such as bfloat16; as they are, if left out
                     device      where they are held, such as cpu; where they are, if left out

    The last three are mappings. After a run, ``report`` says what was done. Raises ValueError at construction for a value out of
    range or an unknown name.
    """

    wrapped: type | None = None  # the guider class that this one is made for

    def __init__(
        self, scale: float = USUAL, *, use_cache: bool = True, interval: int | None = None, max_order: int | None = None,
        step_threshold: float | None = None, calls: int | None = None, calibration: str | os.PathLike | None = None,
        learn: bool | str | os.PathLike = False, repeat_visits: str = "reuse", guider_config: Mapping | None = None,
        plan: Mapping | None = None, forecast: Mapping | None = None, history: Mapping | None = None, **inner,
    ) -> None:  # fmt: skip
        named = {
            "use_cache": use_cache, "interval": interval, "max_order": max_order, "step_threshold": step_threshold,
            "calls": calls, "calibration": calibration, "learn": learn, "repeat_visits": repeat_visits,
            "plan": plan, "forecast": forecast, "history": history,
        }  # fmt: skip
        finite_number("scale", scale := plain(scale), SCALE_REMEDY)
        settings, inner = _parted({**named, **inner})
        by_scale = guider_config is None
        calibration = Calibration.load(settings.calibration) if settings.calibration else None
        if calibration:
            calibration.budget(settings.calls)
        wrapped = class_by_scale(scale, settings, inner, calibration) if by_scale else class_by_name(guider_config)
        if wrapped is not self.wrapped:
            self.__class__ = made_for(type(self) if self.wrapped is None else type(self).__bases__[0], wrapped)
        params = inner if by_scale else {**(guider_config.get("params") or {}), **inner}
        self._made, built = Made.of(self.wrapped, scale, params, by_scale)
        self.__dict__.update(attributes_of(built, OURS))
        if not self._made.shows:
            self.__dict__["scale"] = self._made.scale(scale)
        self.settings, self._calibration, self._report = settings, calibration, None
        self._learner = Learner(settings) if settings.learn else None
        shim.install()

    __eq__, __hash__ = object.__eq__, object.__hash__  # it is itself, even where a dataclass is wrapped

    # What a host asks of its guider.

    @visits.eager
    def prepare_inputs(self, x: torch.Tensor, sigma: torch.Tensor, cond: dict, uc: dict | None, *args, **kwargs) -> tuple:
        """The denoiser's arguments: the wrapped guider's where it will be called; else as they came, with nothing doubled."""
        asked = visits.ask(self, x, sigma)
        if asked.forecast:
            return (x, sigma, cond, *args, *kwargs.values())
        if asked.run is not None:
            x, sigma = asked.run.inputs(asked, sigma)
        prepared = super().prepare_inputs(x, sigma, cond, uc, *args, **kwargs)
        if asked.run is not None:
            asked.run.called_with(asked, prepared)
        return (own(prepared[0], x), *(own(each, sigma) for each in prepared[1:]))  # a denoiser may write into what it is given

    @visits.eager
    def __call__(self, denoised: torch.Tensor, sigma: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """The guided output: the branches combined by the wrapped guider, or the forecast (``denoised`` is then ignored).

        A host that passes more than these two (a step, a scale) combines differently from visit to visit. There the branches
        are what is remembered and forecast, and the wrapped guider combines them at every visit.
        """
        host_call = super().__call__

        def combine(output, asked=None):
            return host_call(output, sigma if asked is None else torch.full_like(sigma, asked), *args, **kwargs)

        return visits.answer(self, denoised, combine, varying=bool(args or kwargs))

    @property
    def scale(self) -> float | torch.Tensor:
        """The wrapped guider's scale; setting it takes effect from the next visit on.

        A guider that shows no attribute of that name is made anew with it, its other attributes as at construction. ValueError
        for one that another class of guider is needed for.
        """
        return self.__dict__["scale"] if "scale" in self.__dict__ else super().scale

    @scale.setter
    def scale(self, scale):
        if self._made.by_scale:
            finite_number("scale", scale := plain(scale), SCALE_REMEDY)
            needed = class_by_scale(scale, self.settings, self._made.params, self._calibration, self.wrapped)
            if needed is not self.wrapped:
                classes = f"this guider is a {self.wrapped.__name__}, that scale needs a {needed.__name__}"
                raise ValueError(f"scale={scale!r}: {classes}; build another guider with it")
        if self._made.fixed:
            raise ValueError(f"scale={scale!r}: {self.wrapped.__name__} takes none; wrap a guider that does")
        self._take(scale)

    def _take(self, scale):
        """Have the wrapped guider combine with ``scale``, whatever class of guider it would be built as."""
        if (built := self._made.at(scale)) is not None:
            kept = vars(torch.nn.Module())  # parameters and the like: of a guider that is one, they stay
            self.__dict__.update({name: value for name, value in attributes_of(built, OURS).items() if name not in kept})
        self.__dict__["scale"] = scale

    @contextmanager
    def at_scale(self, scale):
        """For a while, the guider with another ``scale``: the laboratory's, which calibrates for several."""
        before = self.scale
        if before is scale:
            yield
            return
        self._take(scale)
        try:
            yield
        finally:
            self._take(before)

    @property
    def report(self) -> Report | None:
        """What was done in the run under way here, else in the one that ended last; None before the first."""
        run = loops.current(self)
        return self._report if run is None else run.report

    # What the runs of its samplers ask of it.

    def policy(self, schedule: Schedule, sampler: object, dtype: torch.dtype, x: torch.Tensor | None = None) -> Policy:
        """Who answers the visits of a run of ``sampler`` over ``schedule``, whose sigmas have ``dtype``, from ``x`` if known.

        ValueError where settings or calibration do not fit it.
        """
        settings, known = self.settings, stepping(sampler)
        if settings.computes_all:
            return Everything("planned" if settings.use_cache else "cache off")
        require_falling(schedule, sampler)
        if self._calibration is None:
            policy = unfitted(settings, schedule, known, self.scale)
            return policy if settings.learn is False else self._learner.policy(self, schedule, sampler, x, policy, dtype)
        if sampler is None:
            raise ValueError("a calibration needs a sampler that begins its runs through the shim")
        run = describe(sampler, known, self, schedule.keys)
        policy = policy_for(self._calibration, settings, run, known, dtype)
        if policy.keep.means and x is not None and x.ndim < 3:
            raise ValueError(f"the calibration weighs means of blocks: x is {tuple(x.shape)}, give one with a height and a width")
        warn_if_it_goes_on(self._calibration.fitted, run)
        return policy

    @visits.eager
    def opens(self, run: Run, method: Callable, args: tuple, kwargs: dict) -> None:
        """The sampler of ``run`` is about to ask for its first output, by ``method(*args, **kwargs)``.

        ValueError for what was learnt from another model.
        """
        if self._learner is not None:
            run.opening = inspect.signature(method).bind(*args, **kwargs)
            self._learner.opens(self, run)

    def learn_from(self, run: Run) -> None:
        """``run`` has ended well: learn from it, if it was recorded for that. Never raises, but where it is interrupted."""
        if run.recording is not None:
            self._learner.learn(self, run)
        elif self._learner is not None:
            self._learner.went(run)

    def finished(self, report: Report) -> None:
        """A run has ended; ``report`` is what it did."""
        self._report = report

    def __reduce__(self):
        anew = {"_report": None, "_learner": self._learner and Learner(self.settings)}
        return _remade, (type(self).__bases__[0], self.wrapped), {**self.__dict__, **anew}

    def __repr__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in asdict(self.settings).items())
        return f"TaylorSeerGuider({self.wrapped.__name__}, {options})"


def _option(name):
    """A read-only attribute: the option ``name`` of the guider's settings."""

    def fixed(self, value):
        raise AttributeError(f"{name} is fixed at construction; build another guider with {name}={value!r}")

    return property(lambda self: getattr(self.settings, name), fixed)


for _name in OPTIONS:
    setattr(TaylorSeerGuider, _name, _option(_name))
OURS = {name for name in vars(TaylorSeerGuider) if not name.startswith("__")} - {"prepare_inputs", "scale"}
OURS |= {"settings", "_made", "_calibration", "_learner", "_report"}  # what a wrapped guider must not have


def _parted(options):
    """(Settings, what is left for the wrapped guider)."""
    options = regrouped(options)
    return Settings(**{name: options.pop(name) for name in OPTIONS if name in options}), options


def _remade(cls, wrapped):
    """A guider to be filled: a copy has the settings and the class of the original, and no run."""
    shim.install()
    return object.__new__(made_for(cls, wrapped))
