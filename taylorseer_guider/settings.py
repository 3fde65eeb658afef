"""What a user may set. A mistake is one clear line at construction: for one value by ``values``, for several together here."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache

import torch

from .forecast import BASES, COORDINATES, QUANTITIES
from .values import device_of, dtype_of, one_of, path_of, positive_number, step_indices, whole_number

logger = logging.getLogger(__name__)
REPEATS = ("reuse", "later", "compute")
MOST_ORDER = 100  # of a forecast: more outputs than that no schedule has use for
AUTO = "auto"  # what suits the sampler
USUAL_SCALE = 5.0  # of guidance, where nothing is said of it
STRONG = 2.0  # guidance scale from which forecasts are of order 1 at most


@dataclass(frozen=True)
class Plan:
    """Which nodes are called, beyond ``interval`` and ``calls``."""

    nodes: tuple[int, ...] | None = None
    warmup: int = 1
    tail: int = 0
    tolerance: float | None = None
    max_skip: int = 3

    def __post_init__(self):
        object.__setattr__(self, "nodes", step_indices(self.nodes))
        whole_number("plan.warmup", self.warmup, 0, "how many of the first nodes always call the denoiser")
        whole_number("plan.tail", self.tail, 0, "how many of the last nodes always call the denoiser")
        whole_number("plan.max_skip", self.max_skip, 1, "how many nodes in a row `tolerance` may forecast")
        if self.tolerance is not None:
            positive_number("plan.tolerance", self.tolerance, "the error up to which a node is forecast, such as 0.2")


@dataclass(frozen=True)
class Forecast:
    """What is forecast, and in what."""

    quantity: str = AUTO
    coordinate: str = AUTO
    basis: str = "newton"

    def __post_init__(self):
        one_of("forecast.quantity", self.quantity, (AUTO, *QUANTITIES))
        one_of("forecast.coordinate", self.coordinate, (AUTO, *COORDINATES))
        one_of("forecast.basis", self.basis, BASES)

    def quantity_on(self, noisy):
        """The quantity; where it is left out, ``eps``, but ``denoised`` where a sampler may add noise (``noisy``).

        Both are at home in data of any offset and spread. eps follows x, and would hand noise on that was added meanwhile.
        """
        return self.quantity if self.quantity != AUTO else "denoised" if noisy else "eps"

    def coordinate_of(self, quantity):
        """The coordinate to forecast ``quantity`` in."""
        if self.coordinate != AUTO:
            return self.coordinate
        return "asinh" if quantity in ("denoised", "v") else "rho"


@dataclass(frozen=True)
class History:
    """Where and how outputs are held; as they are, if left out. Dtypes and devices may be given by name."""

    dtype: torch.dtype | None = None
    device: torch.device | None = None

    def __post_init__(self):
        object.__setattr__(self, "dtype", dtype_of(self.dtype))
        object.__setattr__(self, "device", device_of(self.device))


DECIDED = ("interval", "max_order", "step_threshold", "repeat_visits", "plan", "forecast")  # by a calibration, where there is one
GROUPS = {"plan": Plan, "forecast": Forecast, "history": History}
MOVED = {  # options that were flat: the group that they are in now, and their name there
    "activate": ("plan", "nodes"),
    **{name: ("plan", name) for name in ("warmup", "tail", "tolerance", "max_skip")},
    **{name: ("forecast", name) for name in ("quantity", "coordinate", "basis")},
    "history_dtype": ("history", "dtype"),
    "history_device": ("history", "device"),
}


@dataclass(frozen=True)
class Settings:
    """The forecasting options of a guider, checked."""

    use_cache: bool = True
    interval: int | None = None
    max_order: int | None = None
    step_threshold: float | None = None
    calls: int | None = None
    calibration: str | None = None
    learn: bool | str = False
    repeat_visits: str = "reuse"
    plan: Plan = field(default_factory=Plan)
    forecast: Forecast = field(default_factory=Forecast)
    history: History = field(default_factory=History)

    def __post_init__(self):
        if not isinstance(self.use_cache, bool):
            raise ValueError(f"use_cache={self.use_cache!r}: give true or false; false is the host's own guider")
        if self.interval is not None:
            whole_number("interval", self.interval, 1, "1 calls the denoiser at every node, 3 at every third")
        if self.max_order is not None:
            whole_number("max_order", self.max_order, 0, "0 reuses the newest output, 1 draws a line through two", MOST_ORDER)
        one_of("repeat_visits", self.repeat_visits, REPEATS)
        if self.step_threshold is not None:
            positive_number("step_threshold", self.step_threshold, "a distance in sigma beyond which a node is called")
        if self.calls is not None:
            whole_number("calls", self.calls, 1, "how many nodes call the denoiser")
        object.__setattr__(self, "calibration", path_of("calibration", self.calibration))
        if not isinstance(self.learn, bool):
            object.__setattr__(self, "learn", path_of("learn", self.learn, "true or false, or ") or False)
        for name, group in GROUPS.items():
            object.__setattr__(self, name, _grouped(name, group, getattr(self, name)))
        plans = {"plan.nodes": self.plan.nodes, "plan.tolerance": self.plan.tolerance, "calls": self.calls}
        given = [f"{name}={value!r}" for name, value in plans.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{', '.join(given)}: each plans the calls; leave one")
        self._require_nothing_else()
        self._require_one_budget()

    def _require_nothing_else(self):
        """Raise ValueError where an option is given that the ``calibration`` decides."""
        if self.calibration is None:
            return
        for name in self.given(DECIDED):
            said = name if name in GROUPS else f"{name}={getattr(self, name)!r}"
            raise ValueError(f"{said}: calibration={self.calibration!r} decides it; leave one of the two out")

    def given(self, names):
        """Those of the options ``names`` that are not as they are by default."""
        bare = Settings()
        return [name for name in names if getattr(self, name) != getattr(bare, name)]

    def _require_one_budget(self):
        """Raise ValueError where there is something to ``learn``, and no one number of calls to learn it for."""
        if self.learn is False:
            return
        if self.calls is None:
            raise ValueError(f"learn={self.learn!r}: say for how many calls, such as calls: 8")
        if self.calibration is not None:
            raise ValueError(f"learn={self.learn!r}, calibration={self.calibration!r}: both bring plan and weights; leave one")
        if self.repeat_visits != "reuse":
            raise ValueError(f"repeat_visits={self.repeat_visits!r}: what `learn` finds reuses visits; leave one of the two out")
        if self.step_threshold is not None:
            raise ValueError(f"step_threshold={self.step_threshold!r}: `learn` makes as many calls as are said; leave one out")
        if not self.may_land:
            given = f"forecast.quantity={self.forecast.quantity!r}, basis={self.forecast.basis!r}"
            raise ValueError(f"{given}: `learn` goes from the solver's weights; leave `learn` out, or these")

    @property
    def computes_all(self):
        """Whether every visit is the host's own guider's, bit for bit."""
        planned = self.calls, self.calibration, self.plan.nodes, self.plan.tolerance
        all_called = self.interval == 1 and self.repeat_visits == "compute" and planned == (None,) * 4
        return not self.use_cache or all_called

    @property
    def plans_nothing(self):
        """Whether nothing is said of which nodes are called, or how many."""
        given = self.interval, self.calls, self.step_threshold
        return given == (None,) * 3 and self.plan == Plan()

    @property
    def may_land(self):
        """Whether the forecasts are left to the solver of ``landing``, on samplers whose steps are known."""
        left = self.forecast.quantity, self.forecast.basis, self.repeat_visits, self.plan.tolerance
        return left == (AUTO, Forecast.basis, REPEATS[0], None)

    def order_on(self, stirs, landing, scale, free=False):
        """The order of forecasts: ``max_order``; where that is left out, 0 on a sampler that is known to add noise (``stirs``), 2
        where ``landing`` forecasts at a ``scale`` below ``STRONG``, or 3 where calls are ``free`` to have even gaps, else 1.

        New noise moves outputs in ways that earlier ones do not foretell: a line through two of them goes on with the old. And
        guidance of a large ``scale`` makes outputs swing wider than a parabola follows (DPM-Solver++, arXiv 2211.01095, section
        4: why guided sampling is better off with lower orders).
        """
        if self.max_order is not None:
            return self.max_order
        return 0 if stirs else 2 + free if landing and scale < STRONG else 1


OPTIONS = tuple(option.name for option in fields(Settings))


def regrouped(options):
    """``options`` with those that were flat before put into their groups; the log says once where each has gone."""
    options = dict(options)
    for name in [name for name in options if name in MOVED]:
        group, inside = MOVED[name]
        _say_moved(name, f"{group}: {{{inside}: ...}}")
        value, given = options.pop(name), options.get(group)
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"{group}={given!r}: give a mapping such as {{{inside}: ...}}")
        if given and inside in given:
            raise ValueError(f"{name}={value!r}: {group}.{inside}={given[inside]!r} is given, too; leave {name} out")
        options[group] = {**(given or {}), inside: value}
    return options


@cache
def _say_moved(name, place):
    logger.warning("the option %s is now %s", name, place)


def _grouped(name, group, value):
    """``value``, a mapping or None, as ``group``."""
    if isinstance(value, group):
        return value
    known = [option.name for option in fields(group)]
    if value is None:
        return group()
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}={value!r}: give a mapping with {', '.join(known)}")
    if unknown := [str(key) for key in value if key not in known]:
        raise ValueError(f"{name}.{unknown[0]}: unknown option; {name} takes {', '.join(known)}")
    return group(**value)
