"""Which class of guider is wrapped, and how it is made: by a scale alone, or by name; the host's own constructor builds it."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Real

import torch

from .files import first_line
from .hosts import HOSTS, only_host
from .settings import OPTIONS, USUAL_SCALE
from .shim import Skipping
from .standalone.config import get_obj_from_str
from .values import finite_number, misspelt, quoted


class LeftOut(float):
    """A number that stands where nobody gave one."""


USUAL = LeftOut(USUAL_SCALE)
SCALE_REMEDY = "5.0 is usual, 0 and 1 need no unconditional branch"


def class_by_scale(scale, settings, inner, calibration=None, built=None):
    """The host's own guider class for ``scale``; ``built`` is the class of one that is there already, whose host is the one.

    At scale 1 one branch is enough, but not for a ``calibration`` whose weights are for two there.
    """
    host = _host_of(built) or only_host()
    both = calibration is not None and calibration.branches == 2 and calibration.fitted.holds(1)
    one = scale == 1 and not (inner or both or settings.computes_all) and _doubling_is_the_guiders(host)
    return host.guider_class("IdentityGuider" if scale == 0 or one else "VanillaCFG")


def class_by_name(guider_config):
    """The class that ``guider_config`` (``{target, params}``) names. ValueError for one that cannot be wrapped."""
    if not hasattr(guider_config, "keys") or not isinstance(guider_config.get("target"), str):
        raise ValueError(f"guider_config={guider_config!r}: give a mapping with `target` and, if needed, `params`")
    if (unknown := misspelt(guider_config, ("target", "params"))) is not None:
        raise ValueError(f"guider_config.{unknown}: unknown entry; it has `target` and, if needed, `params`")
    if not isinstance(given := guider_config.get("params"), (Mapping, type(None))):
        raise ValueError(f"guider_config.params={given!r}: give a mapping of the guider's parameters")
    named = f"guider_config.target={guider_config['target']!r}"
    try:
        found = get_obj_from_str(guider_config["target"])
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{named}: cannot be imported ({first_line(error)}); give package.module.Class") from error
    if isinstance(found, type) and issubclass(found, Skipping):
        raise ValueError(f"{named}: this guider cannot wrap itself; name the host's own")
    if not isinstance(found, type):
        raise ValueError(f"{named}: that is no class; name a guider of the host")
    if any(vars(cls).get("__slots__") for cls in found.__mro__):
        raise ValueError(f"{named}: it has __slots__; wrap a subclass without them")
    if not hasattr(found, "prepare_inputs"):
        raise ValueError(f"{named}: that is no guider, it has no `prepare_inputs`; name a guider of the host")
    return found


def _host_of(built):
    return built and next((host for host in HOSTS if host.guiders == built.__module__), None)


def _doubling_is_the_guiders(host):
    """Forks whose samplers call the guider with more than ``x, sigma`` double some of the denoiser's arguments themselves."""
    return len(inspect.signature(host.guider_class("VanillaCFG").__call__).parameters) == 3


@cache
def made_for(cls, wrapped):
    """The subclass of ``cls`` that is a guider of the class ``wrapped``, too."""
    name, scale = f"{cls.__name__}Of{wrapped.__name__}", getattr(wrapped, "scale", None)
    body = {"wrapped": wrapped, "__module__": cls.__module__, "__doc__": cls.__doc__}
    if hasattr(scale, "__set__"):  # a property: the wrapped guider computes its scale
        body["scale"] = scale
    return type(wrapped)(name, (cls, wrapped), body)


@dataclass(frozen=True)
class Made:
    """How the wrapped guider, of the class ``cls``, is made: with ``params``, its class found ``by_scale`` or by name.

    ``shows`` says whether it has an attribute ``scale``.
    """

    cls: type
    params: dict
    by_scale: bool
    shows: bool = False

    @classmethod
    def of(cls, wrapped, scale, params, by_scale):
        """(a Made, the guider) with ``params`` and, where the class takes one and nothing else is said of it, a ``scale``."""
        taken, said = _scale_parameter(wrapped), by_scale or not isinstance(scale, LeftOut)
        told = taken is not None and (said or ("scale" not in params and taken.default is taken.empty))
        if not told and (isinstance(given := params.get("scale"), Real) or quoted(given)):
            finite_number("guider_config.params.scale", given, SCALE_REMEDY)
        built = build(wrapped, {**params, "scale": +scale} if told else params)
        return cls(wrapped, params, by_scale, hasattr(built, "scale")), built

    def scale(self, scale):
        """The guidance scale of one that has none to show: ``scale`` if it was said, else what its constructor was told."""
        if self.by_scale or not isinstance(scale, LeftOut):
            return +scale  # a plain number
        if (taken := _scale_parameter(self.cls)) is not None:
            told = self.params.get("scale", taken.default)
            return told if isinstance(told, Real) or torch.is_tensor(told) else +scale
        return 1.0 if any(base.__name__ == "IdentityGuider" for base in self.cls.__mro__) else +scale

    @property
    def fixed(self):
        """Whether the scale can neither be set nor told to its constructor."""
        return not (self.by_scale or self.shows or _scale_parameter(self.cls))

    def at(self, scale):
        """The guider made anew with ``scale``; None where setting its attribute is enough, or it has no scale."""
        hidden = self.by_scale or not self.shows
        return build(self.cls, {**self.params, "scale": scale}) if hidden and _scale_parameter(self.cls) else None


def build(cls, params):
    """The wrapped guider as its own constructor makes it. ValueError for parameters that it does not take."""
    known = inspect.signature(cls).parameters
    unknown = [name for name in params if name not in known]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        names = ", ".join(sorted({"scale", "guider_config", *OPTIONS, *known}))
        raise ValueError(f"unknown option {', '.join(map(str, unknown))}: {cls.__name__} and TaylorSeerGuider take {names}")
    return cls(**params)


def _scale_parameter(cls):
    """The parameter ``scale`` of the constructor of ``cls``, or of one that it hands it on to, in ``**kwargs``; None without."""
    for base in cls.__mro__:
        known = inspect.signature(base.__init__).parameters if "__init__" in vars(base) else {}
        if "scale" in known:
            return known["scale"]
        if known and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            return None
    return None


def attributes_of(built, reserved):
    """Those of the wrapped guider ``built``. ValueError where one, or a method, has one of the names ``reserved`` for ours."""
    taken = (reserved & vars(built).keys()) | {name for cls in type(built).__mro__ for name in reserved & vars(cls).keys()}
    if taken:
        name = f"{type(built).__name__}.{min(taken)}"
        raise ValueError(f"{name}: TaylorSeerGuider has something of that name, too; wrap a guider that calls it otherwise")
    return vars(built)
