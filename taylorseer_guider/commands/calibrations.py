"""With which calibration a command samples: one that was named, or one that ships for its scale."""

from math import isfinite

from omegaconf import OmegaConf

from .. import Calibration
from ..engines.errors import UserError
from ..settings import DECIDED, MOVED
from .command import CONFIGS, OURS, flag

CALLS = 8  # of tiny_calibrated.yaml
OWN_PLAN = ("interval", "max_order")  # flags that ask for forecasts without one


def default_config(args):
    """(the config of the embedded model that serves where ``args`` name none, why it has no calibration or None)."""
    kind = getattr(args, "guider", None)
    if kind or not hasattr(args, "calibration"):
        return CONFIGS / f"tiny_{kind or 'taylorseer'}.yaml", None
    if args.calibration or not (why := without(args)):
        return CONFIGS / "tiny_calibrated.yaml", None
    return CONFIGS / "tiny_taylorseer.yaml", why


def without(args):
    """What in ``args`` the shipped calibrations are not for; None where they serve."""
    given = [name for name in OWN_PLAN if getattr(args, name) is not None]
    if args.num_steps is not None and args.num_steps < (args.calls or CALLS):  # each step is called once at most
        given.append("num_steps")
    asked = [f"{flag(name)} {getattr(args, name)}" for name in given] + list(args.overrides)
    return asked[0] if asked else None


def calibrated(config, args):
    """``config`` with the calibration that ``args`` name, or, where it starts from a shipped one, with that of their scale."""
    guider, path = config.sampler_config.params.guider_config, getattr(args, "calibration", None)
    if path is not None and guider.target != OURS:
        raise UserError(f"--calibration {path}: only the guider taylorseer takes it")
    if path is None and (args.config or not guider.params.get("calibration")):
        return config
    if path is None:
        return _with(config, shipped(guider.params.scale if args.scale is None else args.scale))
    return _with(config, path.resolve(), **({} if args.config else only_choice(Calibration.load(path), args)))


def _with(config, path, **params):
    guider = {"params": {"calibration": str(path), **params}}
    return OmegaConf.merge(config, {"sampler_config": {"params": {"guider_config": guider}}})


def only_choice(calibration, args):
    """{option: value} of the scale and the number of calls that ``args`` leave open, where ``calibration`` has but one."""
    found = {"scale": calibration.fitted.scales, "calls": list(calibration.budgets)}
    return {name: values[0] for name, values in found.items() if getattr(args, name) is None and len(values) == 1}


def shipped(scale):
    """The file in configs/ that serves ``scale``. UserError, with those that there are, where none does."""
    found = {path: Calibration.load(path).fitted for path in sorted(CONFIGS.glob("tiny_calibration*.yaml"))}
    serving = [path for path, fitted in found.items() if fitted.holds(scale) or not isfinite(scale)]
    if serving:
        return min(serving, key=lambda path: len(found[path].scales))  # at its own scale one branch may be enough
    scales = ", ".join(fitted.range for fitted in sorted(found.values(), key=lambda fitted: fitted.scales))
    raise UserError(
        f"--scale {scale:g}: calibrations ship for scale {scales}; give one of these, --calibration FILE for a file of your own, "
        "or --guider taylorseer for forecasts without one"
    )


def refuse_overridden(config, args):
    """UserError for an option that the calibration of ``config`` decides, where a flag or an override sets it."""
    guider = config.sampler_config.params.guider_config
    if guider.target != OURS or not guider.params.get("calibration"):
        return
    flags = [f"{flag(name)} {getattr(args, name)}" for name in OWN_PLAN if getattr(args, name, None) is not None]
    start = "sampler_config.params.guider_config.params."
    words = [
        word for word in args.overrides if word.removeprefix(start).replace("=", ".").partition(".")[0] in (*DECIDED, *MOVED)
    ]
    if given := [*flags, *words]:
        raise UserError(f"{given[0]}: the calibration decides that; leave it out, or forecast without a calibration")
